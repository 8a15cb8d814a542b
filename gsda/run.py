"""Run: one adaptation of one task, resumable to the bit."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from gsda.backbones import find_backbone
from gsda.config import Config, completed
from gsda.data import sampling
from gsda.data.domain import Images, Int64, Pair
from gsda.data.transforms import centre_crop, normalise, random_crop_flip
from gsda.device import autocast, evaluation_batch, send
from gsda.errors import BadCheckpoint, BadInput, NonFinite
from gsda.methods import check_method, find_method
from gsda.model import Head, Network, build_head, build_network, load_pretrained
from gsda.monitor import summarise_predictions
from gsda.oracle import Oracle
from gsda.outputs import MIX, Labelled, Mixed, Outputs
from gsda.partial import class_weights
from gsda.tasks import Task
from gsda.validators import VALIDATORS, validate

STATE_VERSION = 2
# An evaluation must cost little beside training: of images that validators only sample, so many.
SAMPLED = 1000


class Run:
    """Training of one configuration on one task.

    Attributes:
        method: networks, losses and optimisers. step_count: iterations done.
        trained_on, held_out: indices of the source's images that are trained on, and that are not.
    """

    def __init__(
        self,
        task: Task,
        config: Config,
        pair: Pair,
        oracle: Oracle | None = None,
        device: str = "cpu",
        pretrained: bool = True,
    ) -> None:
        """Set up a run at step 0, a function of the arguments alone.

        Args:
            pair: labelled source, unlabelled target; for `config.features` "frozen", what
                `gsda.features.freeze` makes of them.
            oracle: sealed target labels, for `oracle/` metrics; None where nobody knows them.
            pretrained: False leaves pretrained weights out, where a checkpoint will follow.

        Raises:
            BadInput: settings that do not fit the data, or weights that do not fit the backbone.
        """
        n_classes = len(pair.classes)
        config.check_classes(n_classes)
        self._fits = check_method(config).frozen_only
        self.task, self.config, self.pair, self.oracle = task, config, pair, oracle
        self.device = torch.device(device)
        self._backbone = find_backbone(config.backbone)
        self.method = find_method(config.method)(self._build(pretrained), config, n_classes)
        self.method.to(self.device)
        self.step_count = 0
        self._labels = torch.from_numpy(pair.source.labels)
        self._set_samplers()

    def _build(self, pretrained: bool) -> Network:
        """What is to be trained: all of E and C, or what stands on cached features."""
        config = self.config
        frozen = config.features == "frozen"
        for images in (self.pair.source.images, self.pair.target):
            if frozen != (images.size == 0):
                raise BadInput(
                    f"features is {config.features!r}, but the data is "
                    f"{'images' if frozen else 'features'}: pass it through gsda.features.freeze."
                )
        sizes = config.backbone, len(self.pair.classes), config.bottleneck
        if frozen:
            return build_head(*sizes, config.seed)
        network = build_network(*sizes, config.seed)
        if pretrained:
            load_pretrained(network, config.backbone, config.weights)
        return network

    @property
    def network(self) -> Network:
        """E and C from images on, as a bundle holds them; with frozen features, put together."""
        network = self.method.network
        return network.complete(self.config.weights) if isinstance(network, Head) else network

    def _set_samplers(self) -> None:
        seeds = np.random.SeedSequence(self.config.seed).generate_state(4, dtype=np.uint32).tolist()
        self.held_out = sampling.hold_out(self._labels, self.config.holdout, seeds[3])
        trained = self._labels.index_fill(0, self.held_out, -1)  # sampling leaves out -1
        self.trained_on = torch.nonzero(trained >= 0).flatten()
        self._source = sampling.Cycle(sampling.class_balanced(trained), seeds[0])
        self._target = sampling.Cycle(sampling.uniform(len(self.pair.target)), seeds[1])
        self._augment = torch.Generator().manual_seed(seeds[2])
        self._pseudo = torch.full((len(self.pair.target),), -1)

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.step_count >= self.config.steps

    def step(self, n: int = 1) -> dict[str, float]:
        """Train `n` iterations, though not beyond `config.steps`.

        Returns:
            Mean of each loss over the iterations; read from the device once, at the end.

        Raises:
            NonFinite: a loss became NaN or infinite.
        """
        first = self.step_count
        sums: dict[str, Tensor] = {}
        for _ in range(min(n, self.config.steps - first)):
            for name, value in self._iterate().items():
                sums[name] = sums[name] + value if name in sums else value
        done = max(self.step_count - first, 1)
        means = {name: float(total) / done for name, total in sums.items()}
        self._check_finite(means, f"between steps {first} and {self.step_count}")
        return means

    def _iterate(self) -> dict[str, Tensor]:
        if self._fits and self.step_count == 0:
            self.method.fit(*map(self._gather_all, (self.pair.source.images, self.pair.target)))
        n = self.config.batch_size
        chosen_s, chosen_t = self._source.take(n), self._target.take(n)
        x_s = self._fetch(self.pair.source.images, chosen_s)
        x_t = self._fetch(self.pair.target, chosen_t)
        y_s = send(self._labels[chosen_s], self.device)
        logs = self.method.update(x_s, y_s, x_t, self.step_count / self.config.steps)
        self.step_count += 1
        return logs

    def _gather_all(self, images: Images) -> Tensor:
        return torch.from_numpy(images.gather(np.arange(len(images))))

    def _fetch(self, images: Images, chosen: Tensor) -> Tensor:
        """Augmented and normalised images (B, 3, crop, crop), or features, on the device."""
        entry = self._backbone
        raw = torch.from_numpy(images.gather(chosen.numpy()))
        if images.size == 0:
            return send(raw, self.device)
        if self.config.crop == "centre":
            raw = centre_crop(raw, entry.crop)
        # Cropped where it lies: that moves fewer bytes, and takes no launch for each image.
        cropped = random_crop_flip(raw, entry.crop, entry.flip, self._augment)
        return normalise(send(cropped, self.device), entry.normalise)

    def _fetch_whole(self, images: Images, indices: Int64) -> Tensor:
        """The same without augmentation."""
        entry = self._backbone
        raw = send(torch.from_numpy(images.gather(indices)), self.device)
        if images.size == 0:
            return raw
        return normalise(centre_crop(raw, entry.crop), entry.normalise)

    def _check_finite(self, values: dict[str, float], when: str) -> None:
        for name, value in values.items():
            if not np.isfinite(value):
                raise NonFinite(f"{name} became {value} {when}")

    def evaluate(self) -> dict[str, float]:
        """Scores of the model as it stands, all label-free but those called `oracle/...`.

        Pseudo labels are refreshed, and the class weights with `class_weighting="pada"`. With
        `target_sampling="pseudo"` the next batches of the target are drawn from the confident
        pseudo labels, balanced over their classes (section 3.1).

        Raises:
            NonFinite: the predictions are not numbers any more.
        """
        outputs = self.predict(self.pair.target)
        if not bool(torch.isfinite(outputs.logits).all()):
            raise NonFinite(f"the target's predictions are not finite after step {self.step_count}")
        metrics = {f"val/{name}": score for name, score in self._validate(outputs).items()}
        p_t = outputs.p.cpu()
        metrics |= summarise_predictions(p_t, self.config.tau, self.pair.classes)
        self._refresh_pseudo_labels(p_t)
        if self.config.class_weighting == "pada":
            self.method.class_weights = class_weights(p_t).to(self.device)
        if self.oracle is not None:
            metrics |= self.oracle.score(outputs.logits.argmax(dim=1))
            metrics |= self.oracle.judge(self._pseudo)
        return metrics

    def _validate(self, target: Outputs) -> dict[str, float]:
        home = target.logits.device
        counts = torch.bincount(self._labels, minlength=len(self.pair.classes)).double()
        known: dict[str, Any] = {
            "target": target,
            "mixed": self.predict_mixed(),
            "classifier": self.method.network.C.weight.detach().to(home),
            "prior": (counts / counts.sum()).to(home),
        }
        if len(self.held_out):
            known["source"] = self.predict_source(self.held_out)
            known["train"] = self.predict_source(self._some_trained_on())
        return validate(VALIDATORS, **known)

    def _some_trained_on(self) -> Tensor:
        """Indices of at most `SAMPLED` of the images trained on, always the same ones."""
        return self.trained_on[_shuffled(len(self.trained_on))[:SAMPLED]]

    def predict(
        self, images: Images, chosen: Tensor | None = None, partner: Tensor | None = None
    ) -> Outputs:
        """Features (N, d) and logits (N, r) of `images`, in order, on the device.

        Args:
            chosen: indices (N,) of those to predict; None for all.
            partner: indices (N,) of the images that each one is mixed with, `MIX` to 1 - `MIX`.
        """
        network = self.method.network
        network.eval()
        features, logits = [], []
        chunk = evaluation_batch(self.device, images.size)
        order = np.arange(len(images)) if chosen is None else chosen.numpy()
        with torch.inference_mode(), autocast(self.config.precision, self.device):
            for start in range(0, len(order), chunk):
                x = self._fetch_whole(images, order[start : start + chunk])
                if partner is not None:
                    others = partner[start : start + chunk].numpy()
                    x = MIX * x + (1 - MIX) * self._fetch_whole(images, others)
                f, z = network(x)
                features.append(f.float())
                logits.append(z.float())
        # Validators compute in float64, which Apple's GPUs do not have.
        home = torch.device("cpu") if self.device.type == "mps" else self.device
        return Outputs(torch.cat(features).to(home), torch.cat(logits).to(home))

    def predict_source(self, indices: Tensor) -> Labelled:
        """Features, logits and labels of the source's images at `indices` (n,)."""
        outputs = self.predict(self.pair.source.images, indices)
        labels = self._labels[indices].to(outputs.logits.device)
        return Labelled(outputs.features, outputs.logits, labels)

    def predict_mixed(self) -> Mixed:
        """What the model makes of at most `SAMPLED` mixtures of two target images.

        Always the same ones: in a random order, each with the next.
        """
        order = _shuffled(len(self.pair.target))
        first, partner = order[:SAMPLED], order.roll(-1)[:SAMPLED]
        outputs = self.predict(self.pair.target, first, partner)
        home = outputs.logits.device
        return Mixed(outputs.features, outputs.logits, first.to(home), partner.to(home))

    def _refresh_pseudo_labels(self, p_t: Tensor) -> None:
        top, label = p_t.max(dim=1)
        self._pseudo = torch.where(top >= self.config.tau, label, -1)
        if self.config.target_sampling == "pseudo":
            self._target.redraw(self._draw_target())

    def _draw_target(self) -> sampling.Draw:
        if self.config.target_sampling == "pseudo" and bool((self._pseudo >= 0).any()):
            return sampling.class_balanced(self._pseudo)
        return sampling.uniform(len(self.pair.target))

    def state_dict(self) -> dict[str, Any]:
        """All that a fresh `Run` of the same arguments needs to go on to the same bits.

        Its tensors are the live ones: write it to a file before stepping on.
        """
        return {
            "version": STATE_VERSION,
            "task": str(self.task),
            "config": self.config.to_dict(),
            "data": self._data_identity(),
            "step": self.step_count,
            "method": self.method.state_dict(),
            "pseudo": self._pseudo,
            "class_weights": self.method.class_weights,
            "source": self._source.state_dict(),
            "target": self._target.state_dict(),
            "augment": self._augment.get_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Undo `state_dict`.

        Raises:
            BadCheckpoint: it belongs to another task, configuration or data.
        """
        here: dict[str, Any] = {"task": str(self.task), "config": self.config.to_dict()}
        here |= {"version": STATE_VERSION, "data": self._data_identity()}
        there = dict(state) | {"config": completed(state.get("config", {}))}
        for name, value in here.items():
            if there.get(name) != value:
                raise BadCheckpoint(
                    f"the checkpoint is of another {name} than this run of {self.task}"
                )
        self.method.load_state_dict(state["method"])
        self.step_count = int(state["step"])
        self._pseudo = state["pseudo"]
        weights = state["class_weights"]
        self.method.class_weights = None if weights is None else weights.to(self.device)
        self._source.load_state_dict(state["source"])
        self._target.redraw(self._draw_target())
        self._target.load_state_dict(state["target"])
        self._augment.set_state(state["augment"])

    def _data_identity(self) -> list[str]:
        return [self.pair.source.images.digest, self.pair.target.digest]


def _shuffled(n: int) -> Tensor:
    """0 .. n - 1 in a random order, the same one always."""
    return torch.randperm(n, generator=torch.Generator().manual_seed(0))
