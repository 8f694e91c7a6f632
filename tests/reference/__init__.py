"""The paper's loop of every rule in float64 numpy: what the library's rules must equal.

Written from the papers' formulas alone, one plain loop a rule, with no code of the library.
"""

from reference.adabelief import adabelief
from reference.adafactor import adafactor
from reference.adam import adam
from reference.adamw import adamw
from reference.ademamix import ademamix
from reference.amsgrad import amsgrad
from reference.lion import lion
from reference.loop import Reference, Step, run
from reference.muon import muon
from reference.prodigy import prodigy
from reference.schedule_free_adamw import schedule_free_adamw
from reference.sgd import sgd
from reference.soap import soap

REFERENCES: dict[str, Reference] = {
    "sgd": sgd,
    "adam": adam,
    "adamw": adamw,
    "amsgrad": amsgrad,
    "lion": lion,
    "adabelief": adabelief,
    "ademamix": ademamix,
    "adafactor": adafactor,
    "schedule-free-adamw": schedule_free_adamw,
    "prodigy": prodigy,
    "muon": muon,
    "soap": soap,
}

__all__ = ["REFERENCES", "Reference", "Step", "run"]
