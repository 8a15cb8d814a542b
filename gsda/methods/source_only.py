"""Source-only: what every adaptation has to beat."""

from torch import Tensor

from gsda import losses
from gsda.methods.common import Baseline, Term, logs
from gsda.optim import descend
from gsda.partial import importance


class SourceOnly(Baseline):
    """Eq. 3 of the GSDA paper alone; the target is not looked at."""

    def update(self, x_s: Tensor, y_s: Tensor, x_t: Tensor, progress: float) -> dict[str, Tensor]:
        """One step of E and C on the source."""
        self.begin(progress)
        _, logits_s = self.extract(x_s)
        counts_s = importance(self.class_weights, y_s)
        L_s = losses.source_classification(logits_s, y_s, counts_s)
        descend(self.optimisers["all"], L_s)
        return logs({"C": Term(1.0, L_s)})
