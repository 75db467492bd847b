"""Codebooks of semantic IDs by residual k-means: ours compared with scikit-learn's, faiss's and a plain torch loop, at equal error.

    python benchmarks/semantic_ids.py --items 12101 --dim 384 --levels 3 --codebook 256 --threads 1 --json

All get the same float32 matrix and give L codebooks; the features are then coded by the nearest code of each level, and the *error* is
the share of the features' variance that the codes leave over. Outputs of k-means are never equal number by number, and one draw of them
is luck: each round has a seed of its own, for all alike, and `identical` means here that our mean error over the rounds is at most
1.01 times scikit-learn's, or the run fails and prints no time.

| name | what |
|---|---|
| ours | `llmrec.items.rq_kmeans.fit_codebooks` as `llmrec tokenize` calls it, settings and all |
| sklearn_kmeans | KMeans(256, n_init=1), else its defaults: k-means++ start, at most 300 iterations, tol 1e-4; level by level |
| sklearn_25 | the same stopped after 25 iterations: for who says that it need not converge |
| faiss_full | faiss.Kmeans in all dimensions, 25 iterations from random points |
| torch_lloyd | 25 iterations of cdist, argmin and index_add_, from random points |

`lower_bound`: the products of one assignment of all items at every level, in all dimensions, at the machine's peak. k-means wants many
of them; ours takes most in fewer dimensions.

Features: encoded titles of the Amazon Beauty set, real, where LLMREC_BENCH_DATA names the data and --dim is the encoder's 384; else
points around 1,000 centres, sampled by seed (`features` says which). scikit-learn is no requirement of llmrec: without it there is no
ratio.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import harness
import numpy as np

ENCODER_WIDTH = 384
EQUAL_ERROR = 1.01
GOAL = 20


def flags() -> argparse.ArgumentParser:
    """The command line."""
    result = harness.parser(__doc__, quick={"items": 3000, "codebook": 64, "rounds": 1, "synthetic": True}, rounds=3)
    result.add_argument("--items", type=int, default=12101)
    result.add_argument("--dim", type=int, default=ENCODER_WIDTH)
    result.add_argument("--levels", type=int, default=3)
    result.add_argument("--codebook", type=int, default=256, help="codes per level")
    result.add_argument("--seed", type=int, default=0)
    result.add_argument(
        "--synthetic", action="store_true", help="made-up features, even where the real ones could be had"
    )
    return result


def make_features(options: argparse.Namespace) -> tuple[np.ndarray, str]:
    """float32 (items, dim), and what they are."""
    data = Path(os.environ.get("LLMREC_BENCH_DATA", ".")) / "amazon14_beauty" / "items.jsonl.gz"
    if data.is_file() and options.dim == ENCODER_WIDTH and not options.synthetic:
        from llmrec.data.catalog import Catalog
        from llmrec.data.readers import read_items
        from llmrec.encoders.text import encode_texts

        titles = Catalog(read_items(data)).texts(["title"])[: options.items]
        if len(titles) == options.items:
            return encode_texts(titles), "titles of Amazon Beauty through all-MiniLM-L6-v2"
    rng = np.random.default_rng(options.seed)
    centres = rng.normal(size=(1000, options.dim))
    points = centres[rng.integers(0, 1000, options.items)] + rng.normal(size=(options.items, options.dim))
    return points.astype(np.float32), "synthetic: 1,000 centres, unit noise"


def residual_kmeans(
    features: np.ndarray, levels: int, kmeans: Callable[[np.ndarray, int], tuple[np.ndarray, np.ndarray]], seed: int
) -> list[np.ndarray]:
    """L codebooks float32 (K, D): each level clusters what the level before left. kmeans(points, seed) -> (centroids, labels)."""
    residual, codebooks = features, []
    for level in range(levels):
        centroids, labels = kmeans(residual, levels * seed + level)
        codebooks.append(centroids)
        residual = residual - centroids[labels]
    return codebooks


def sklearn_kmeans(points: np.ndarray, seed: int, *, size: int, **settings: object) -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's KMeans."""
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = KMeans(size, n_init=1, random_state=seed, **settings).fit(points)
    return fitted.cluster_centers_.astype(np.float32), fitted.labels_


def faiss_kmeans(points: np.ndarray, seed: int, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """faiss's Kmeans on all points."""
    import faiss

    kmeans = faiss.Kmeans(points.shape[1], size, niter=25, seed=seed, max_points_per_centroid=len(points))
    kmeans.train(points)
    return kmeans.centroids, kmeans.index.search(points, 1)[1][:, 0]


def torch_kmeans(points: np.ndarray, seed: int, *, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Lloyd's algorithm in a dozen lines."""
    import torch

    x = torch.from_numpy(points)
    centroids = x[torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))[:size]].clone()
    for _ in range(25):
        labels = torch.cdist(x, centroids).argmin(dim=1)
        sums = torch.zeros_like(centroids).index_add_(0, labels, x)
        counts = torch.bincount(labels, minlength=size)[:, None]
        centroids = torch.where(counts > 0, sums / counts.clamp(min=1), centroids)
    return centroids.numpy(), torch.cdist(x, centroids).argmin(dim=1).numpy()


def describe(features: np.ndarray, codebooks: list[np.ndarray]) -> dict[str, float]:
    """The share of the variance that is left over, and of items that share their row of codes with another."""
    from llmrec.items.codebooks import nearest_codes

    codes = nearest_codes(features, codebooks)
    left = features - sum(book[codes[:, level]] for level, book in enumerate(codebooks))
    _, counts = np.unique(codes, axis=0, return_counts=True)
    variance = ((features - features.mean(axis=0)) ** 2).sum()
    return {"error": float((left**2).sum() / variance), "colliding": float(counts[counts > 1].sum() / len(features))}


def describe_all(features: np.ndarray, rounds: list[list[np.ndarray]]) -> dict[str, float]:
    """Means over the rounds, and the least and the largest error among them."""
    each = [describe(features, codebooks) for codebooks in rounds]
    errors = [one["error"] for one in each]
    return {
        "error": sum(errors) / len(each),
        "colliding": sum(one["colliding"] for one in each) / len(each),
        "least_error": min(errors),
        "largest_error": max(errors),
    }


def make_functions(
    options: argparse.Namespace, features: np.ndarray
) -> Mapping[str, Callable[[int], list[np.ndarray]]]:
    """Ours and the peers that are installed, by name: seed -> codebooks."""
    from llmrec.items.rq_kmeans import fit_codebooks

    size = options.codebook
    kinds = {"faiss_full": partial(faiss_kmeans, size=size), "torch_lloyd": partial(torch_kmeans, size=size)}
    if find_spec("sklearn"):
        kinds["sklearn_kmeans"] = partial(sklearn_kmeans, size=size)
        kinds["sklearn_25"] = partial(sklearn_kmeans, size=size, max_iter=25)
    functions = {"ours": lambda seed: fit_codebooks(features, [size] * options.levels, seed=seed)}
    return functions | {name: partial(residual_kmeans, features, options.levels, kind) for name, kind in kinds.items()}


def lower_bound(options: argparse.Namespace, seconds: float) -> dict[str, float]:
    """Every item times every code of every level, and how many times that ours takes."""
    products = 2 * options.items * options.dim * options.codebook * options.levels / harness.gemm_peak()
    return {"products_s": products, "over_lower_bound": seconds / products}


def run(options: argparse.Namespace) -> dict:
    """See the module's docstring."""
    import faiss

    faiss.omp_set_num_threads(options.threads)
    features, what = make_features(options)
    functions = make_functions(options, features)
    made = {name: [] for name in functions}  # the codebooks of each round

    def timed(name: str) -> Callable[[], object]:
        return lambda: made[name].append(functions[name](options.seed + len(made[name])))

    timings = harness.measure({name: timed(name) for name in functions}, options.rounds)
    quality = {name: describe_all(features, rounds) for name, rounds in made.items()}
    ours, peer = quality["ours"], quality.get("sklearn_kmeans")
    if peer is not None:
        harness.require_identical(
            ours["error"] <= EQUAL_ERROR * peer["error"],
            f"our codes leave {ours['error']:.4f} of the variance, scikit-learn's {peer['error']:.4f}",
        )
    result = {
        "identical": peer is not None,  # equal error, see above; nothing to compare with without scikit-learn
        "features": what,
        "quality": quality,
        "seconds": {name: timing.to_json() for name, timing in timings.items()},
        "ratio": harness.ratios(timings),
        "lower_bound": lower_bound(options, timings["ours"].median),
    }
    if peer is None:
        return result | {
            "absent": {"sklearn_kmeans": "pip install scikit-learn; without it there is no error to be equal to"}
        }
    return result | {
        "goals": [
            harness.goal(
                "semantic ids vs scikit-learn's k-means", result["ratio"]["sklearn_kmeans"], GOAL, "x", at_least=True
            )
        ]
    }


if __name__ == "__main__":
    harness.main(flags(), run)
