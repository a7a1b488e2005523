"""Banks as other projects' files: a file a format, what all of them may show in shared.py.

Usage:

    EXPORTS["inspect"](shared("runs/exam"), Path("exam.eval"))    -> the files written
"""

from ponder.evals.exports.eee import write_eee
from ponder.evals.exports.hub import write_hub
from ponder.evals.exports.inspect import write_inspect
from ponder.evals.exports.lm_eval import write_lm_eval

EXPORTS = {"inspect": write_inspect, "eee": write_eee, "lm-eval": write_lm_eval, "hub": write_hub}
