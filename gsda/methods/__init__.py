"""The methods, one file each; a new one is a file and an entry here.

Needs no torch to be read: a command line must be able to refuse a mistake at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

from gsda.errors import BadInput

if TYPE_CHECKING:
    from gsda.config import Config
    from gsda.methods.base import Method

# What any training has; all other searchable fields mean something to some methods only.
OF_TRAINING = ("lr", "backbone_lr", "weight_decay")


@dataclass(frozen=True)
class Entry:
    """What is known of a method before it is loaded.

    Attributes:
        home: module of `gsda.methods` and class in it.
        title: the name that the literature uses.
        citation: where it was proposed.
        fields: fields of `Config` that mean something to this method, beside those of any training.
        searched: what a search varies unless told otherwise.
        frozen_only: it is fitted to the features of a frozen backbone, and trains none.
        weighs_classes: it has a meaning for `class_weighting` (`gsda.partial`).
    """

    home: str
    title: str
    citation: str
    fields: tuple[str, ...] = ("lambda_max",)
    searched: tuple[str, ...] = ("lambda_max", "lr")
    frozen_only: bool = False
    weighs_classes: bool = False


_OF_GSDA = ("alpha", "beta", "n_groups", "tau")

METHODS: dict[str, Entry] = {
    "gsda": Entry(
        home="gsda:GSDA",
        title="GSDA",
        citation="Hu, Kan, Shan and Chen, CVPR 2020",
        fields=(*_OF_GSDA, "lambda_max"),
        searched=_OF_GSDA,
        weighs_classes=True,
    ),
    "source_only": Entry(
        home="source_only:SourceOnly",
        title="source-only",
        citation="no adaptation",
        fields=(),
        searched=("lr", "weight_decay"),
        weighs_classes=True,
    ),
    "dann": Entry(
        home="dann:DANN",
        title="DANN",
        citation="Ganin et al., JMLR 2016",
        weighs_classes=True,
    ),
    "adda": Entry(
        home="adda:ADDA", title="ADDA", citation="Tzeng, Hoffman, Saenko and Darrell, CVPR 2017"
    ),
    "dan": Entry(home="dan:DAN", title="DAN", citation="Long, Cao, Wang and Jordan, ICML 2015"),
    "rtn": Entry(home="rtn:RTN", title="RTN", citation="Long, Zhu, Wang and Jordan, NIPS 2016"),
    "jan": Entry(home="jan:JAN", title="JAN", citation="Long, Zhu, Wang and Jordan, ICML 2017"),
    "mada": Entry(
        home="mada:MADA",
        title="MADA",
        citation="Pei, Cao, Long and Wang, AAAI 2018",
        weighs_classes=True,
    ),
    "cdan": Entry(
        home="cdan:CDAN",
        title="CDAN",
        citation="Long, Cao, Wang and Jordan, NeurIPS 2018",
        weighs_classes=True,
    ),
    "cdan_e": Entry(
        home="cdan:CDANE",
        title="CDAN+E",
        citation="Long, Cao, Wang and Jordan, NeurIPS 2018",
        weighs_classes=True,
    ),
    "mcd": Entry(
        home="mcd:MCD", title="MCD", citation="Saito, Watanabe, Ushiku and Harada, CVPR 2018"
    ),
    "symnets": Entry(
        home="symnets:SymNets", title="SymNets", citation="Zhang, Tang, Jia and Tan, CVPR 2019"
    ),
    "afn": Entry(home="afn:AFN", title="SAFN", citation="Xu, Li, Yang and Lin, ICCV 2019"),
    "bsp": Entry(
        home="bsp:BSP",
        title="BSP (with CDAN)",
        citation="Chen, Wang, Long and Wang, ICML 2019",
        weighs_classes=True,
    ),
    "tca": Entry(
        home="tca:TCA",
        title="TCA",
        citation="Pan, Tsang, Kwok and Yang, IEEE TNN 2011",
        fields=(),
        searched=("lr", "weight_decay"),
        frozen_only=True,
    ),
    "gfk": Entry(
        home="gfk:GFK",
        title="GFK",
        citation="Gong, Shi, Sha and Grauman, CVPR 2012",
        fields=(),
        searched=("lr", "weight_decay"),
        frozen_only=True,
    ),
}


def find_entry(name: str) -> Entry:
    """The entry of a method.

    Raises:
        BadInput: there is none of that name.
    """
    if name not in METHODS:
        raise BadInput(f"Unknown method {name!r}: choose one of {', '.join(METHODS)}.")
    return METHODS[name]


def key_of(name: str) -> str:
    """The key of a method by its key or title in any case, with "-" for "_"; else `name` as it is.

    ``SAFN`` is ``afn``, ``source-only`` is ``source_only``.
    """
    known = {_plain(entry.title): key for key, entry in METHODS.items()}
    known |= {_plain(key): key for key in METHODS}
    return known.get(_plain(name), name)


def _plain(name: str) -> str:
    return name.strip().casefold().replace("-", "_")


def check_method(config: "Config") -> Entry:
    """The entry of `config.method`, if it can do what the configuration asks for.

    Raises:
        BadInput: unknown, or features or class weights that it has no use for.
    """
    name = config.method
    entry = find_entry(name)
    if entry.frozen_only and config.features != "frozen":
        raise BadInput(
            f"method is {name!r}, which is fitted to frozen features, but features is "
            f"{config.features!r}: add --features frozen."
        )
    if config.class_weighting != "none" and not entry.weighs_classes:
        able = ", ".join(other for other, known in METHODS.items() if known.weighs_classes)
        raise BadInput(
            f"class_weighting is {config.class_weighting!r}, which {name!r} has no place for: "
            f"choose a method of {able}."
        )
    return entry


def check_fields(name: str, fields: Mapping[str, str]) -> None:
    """Refuse settings that mean nothing to a method.

    Args:
        fields: searchable fields of `Config`, each with the option that named it.

    Raises:
        BadInput: names the first, and what could be named in its place.
    """
    entry = find_entry(name)
    known = (*entry.fields, *OF_TRAINING)
    for field, option in fields.items():
        if field not in known:
            raise BadInput(f"{option} means nothing to {name}: choose from {', '.join(known)}.")


def find_method(name: str) -> "type[Method]":
    """The class of a method.

    Raises:
        BadInput: there is none of that name.
    """
    module, _, kind = find_entry(name).home.partition(":")
    found: Any = getattr(import_module(f"gsda.methods.{module}"), kind)
    return cast("type[Method]", found)


__all__ = [
    "METHODS",
    "OF_TRAINING",
    "Entry",
    "check_fields",
    "check_method",
    "find_method",
    "key_of",
]
