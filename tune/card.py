"""What the registry's pages say of a model: from what, by what, how good, and how to use it."""

from collections.abc import Mapping
from typing import Any

from gsda.backbones import find_backbone
from gsda.config import Config
from gsda.methods import METHODS, find_entry
from gsda.tasks import BENCHMARKS, Task

LOAD = """```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}")
answer = model.predict(images)  # uint8 (N, height, width, 3), of any size
answer["class"], answer["probabilities"]
```"""


def describe_model(name: str, task: Task, method: str) -> str:
    """Of a registered model, whose versions compete for one alias."""
    return (
        f"Best models of {task} by {find_entry(method).title} searches. The alias `champion` goes "
        "to the best by the same label-free score on the same images.\n\n"
        f"{LOAD.format(name=f'{name}@champion')}\n\n"
        f"From a shell: `python -m gsda predict models:/{name}@champion IMAGES`"
    )


def describe_version(
    name: str,
    task: Task,
    manifest: Mapping[str, Any],
    metric: str,
    value: float,
    oracle: float | None,
    unsealed: bool = False,
    how: str = "",
) -> str:
    """Of one version; Markdown. Its first sentence stands in tables of versions as well.

    Args:
        oracle: accuracy on target labels where they exist.
        unsealed: whether these may have had a part in choosing.
        how: how its setting was chosen, if not by this task's score alone.
    """
    role = "which had a part in choosing" if unsealed else "by which nothing was chosen"
    reads = "target labels had a part in choosing" if unsealed else "which reads no target label"
    config, classes = Config.from_dict(manifest["config"]).to_dict(), manifest["classes"]
    score = f"{metric} = {value:.4f}"
    unknown = "not known: the target has no labels here"
    known = unknown if oracle is None else f"{100 * oracle:.1f}%, {role}"
    rows = {
        "Task": f"{task}: labelled images of {task.source}, unlabelled ones of {task.target}",
        "Data": _title(task),
        "Classes": f"{len(classes)}: {_names(classes)}",
        "Setting": setting_of(config),
        "Training": _training(manifest.get("step", config["steps"]), config),
        "Chosen by": f"{how}; here " * bool(how) + f"{score}, {reads}",
        "Accuracy on the target": known,
        "Licence": licence_of(config),
    }
    table = "\n".join(f"| {key} | {text} |" for key, text in rows.items())
    right = "" if oracle is None else f", {100 * oracle:.1f}% right on the target"
    right += ", whose labels had a part in choosing" if unsealed else ""
    summary = f"{_trained(task, config)}: {score}{right}."
    return f"{summary}\n\n| | |\n|---|---|\n{table}\n\n{LOAD.format(name=name)}"


def _trained(task: Task, config: Mapping[str, Any]) -> str:
    """``glyph31/A2D by GSDA with alpha 0.02, beta 1, n_groups 6, tau 0.9``."""
    title = find_entry(config.get("method", Config.method)).title
    return f"{task} by {title} with {_values(config)}"


def licence_of(config: Mapping[str, Any]) -> str:
    """What a user must know before he passes the weights on."""
    images = "The images that it was trained on have a licence of their own."
    weights, entry = str(config.get("weights", "default")), find_backbone(config["backbone"])
    if weights == "none" or (weights == "default" and not entry.head):
        return f"The weights began at random; this package is under the MIT licence. {images}"
    if weights != "default":
        return f"The weights began from a file of yours, whose licence goes with them. {images}"
    return (
        "The weights began from torchvision's IMAGENET1K_V1. They were trained on ImageNet, whose "
        "terms allow research and teaching that earn nothing; torchvision (BSD-3-Clause) leaves it "
        f"to you to find out what that means for your use. {images}"
    )


def setting_of(config: Mapping[str, Any]) -> str:
    """``alpha 0.02, beta 1, n_groups 6, tau 0.9``; of another method its name, and its own."""
    entry = find_entry(config.get("method", Config.method))
    values = _values(config)
    return values if entry is METHODS[Config.method] else f"{entry.title}, {values}"


def _values(config: Mapping[str, Any]) -> str:
    searched = find_entry(config.get("method", Config.method)).searched
    return ", ".join(f"{name} {config[name]:.4g}" for name in searched if name in config)


def _training(steps: int, config: Mapping[str, Any]) -> str:
    n = config["batch_size"]
    return (
        f"{steps} steps of {n} + {n} images, backbone {config['backbone']}, seed {config['seed']}"
    )


def _title(task: Task) -> str:
    benchmark = BENCHMARKS.get(task.dataset)
    return "images of your own" if benchmark is None else benchmark.title


def _names(classes: list[str]) -> str:
    shown = [str(name).replace("|", r"\|") for name in classes[:8]]
    return ", ".join(shown) + (f" and {len(classes) - 8} more" if len(classes) > 8 else "")
