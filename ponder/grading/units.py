r"""Units: names of quantities, each a base symbol and a scale, so that 1 m is 100 cm, and 10 m is not 10 cm."""

from __future__ import annotations

import re
from fractions import Fraction

from ponder.grading.tree import Node, Unparsed

UNITS: dict[str, tuple[str, Fraction | None]] = {}  # name -> (base symbol, scale); scale None: computed (degrees)


def _unit(base: str, scale: str, names: str) -> None:
    for name in names.split():
        UNITS[name] = (base, Fraction(scale))


_unit("m", "1", "m meter meters metre metres")
_unit("m", "1/100", "cm centimeter centimeters centimetre centimetres")
_unit("m", "1/1000", "mm millimeter millimeters millimetre millimetres")
_unit("m", "1000", "km kilometer kilometers kilometre kilometres")
_unit("m", "127/5000", "inch inches")
_unit("m", "381/1250", "ft foot feet")
_unit("m", "1143/1250", "yd yard yards")
_unit("m", "201168/125", "mi mile miles")
_unit("g", "1", "g gram grams")
_unit("g", "1000", "kg Kg KG kgs Kgs kilogram kilograms kilo kilos")
_unit("g", "1/1000", "mg milligram milligrams")
_unit("g", "45359237/100000", "lb lbs pound pounds")
_unit("g", "45359237/1600000", "oz ounce ounces")
_unit("s", "1", "s sec secs second seconds")
_unit("s", "1/1000", "ms millisecond milliseconds")
_unit("s", "60", "min mins minute minutes")
_unit("s", "3600", "h hr hrs hour hours")
_unit("s", "86400", "day days")
_unit("s", "604800", "week weeks")
_unit("year", "1", "yr yrs year years")
_unit("year", "1/12", "month months")
_unit("L", "1", "L l liter liters litre litres")
_unit("L", "1/1000", "ml mL milliliter milliliters millilitre millilitres")
_unit("L", "473176473/125000000", "gallon gallons gal")
_unit("L", "473176473/500000000", "quart quarts qt")
_unit("L", "473176473/1000000000", "pint pints pt")
_unit("g", "1000000", "tonne tonnes")
_unit("N", "1", "N newton newtons")
_unit("N", "1000", "kN kilonewton kilonewtons")
_unit("J", "1", "J joule joules")
_unit("J", "1000", "kJ kilojoule kilojoules")
_unit("J", "1000000", "MJ megajoule megajoules")
_unit("W", "1", "W watt watts")
_unit("W", "1000", "kW kilowatt kilowatts")
_unit("V", "1", "V volt volts")
_unit("V", "1/1000", "mV millivolt millivolts")
_unit("V", "1000", "kV kilovolt kilovolts")
_unit("W", "1000000", "MW megawatt megawatts")
_unit("ampere", "1", "amp amps ampere amperes")
_unit("ampere", "1/1000", "mA milliamp milliamps milliampere milliamperes")
_unit("Pa", "1", "Pa pascal pascals")
_unit("Pa", "1000", "kPa kilopascal kilopascals")
_unit("Pa", "1000000", "MPa megapascal megapascals")
_unit("eV", "1", "eV")
_unit("eV", "1000", "keV")
_unit("eV", "1000000", "MeV")
_unit("ohm", "1", "ohm ohms")
_unit("ohm", "1000", "kohm kilohm kilohms")
_unit("m", "1/1000000000", "nm nanometer nanometers nanometre nanometres")
_unit("Hz", "1000", "kHz kilohertz")
_unit("Hz", "1000000", "MHz megahertz")
_unit("Hz", "1", "Hz hertz")
_unit("m", "1/10", "dm decimeter decimeters decimetre decimetres")
_unit("dollar", "1", r"dollar dollars usd USD \dollar buck bucks")
_unit("dollar", "1/100", "cent cents ¢")
_unit("euro", "1", "euro euros EUR €")
_unit("sterling", "1", "GBP £")
_unit("yen", "1", "JPY yen ¥")
_unit("%", "1/100", "% percent pct")  # base "%" means a pure number
_unit("%", "1/1000", "permille")
_unit("%", "1", "radian radians rad")
_unit("m/s", "1397/3125", "mph")
_unit("m/s", "5/18", "kph kmh kmph")
UNITS |= dict.fromkeys(("°", "deg", "degree", "degrees", r"\deg"), ("%", None))
SCALES = {"hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
SCALES |= {"quadrillion": 10**15, "quintillion": 10**18, "sextillion": 10**21, "septillion": 10**24}
SCALES |= {"lakh": 10**5, "lac": 10**5, "crore": 10**7}
SCALES |= {name + "s": value for name, value in SCALES.items()}
LETTER_UNITS = frozenset("msghLlNJWV")  # a single letter is a unit only after a space or inside \text
SPACED_UNITS = frozenset("nm Pa mA mV kV MW eV".split())  # after a space or inside \\text too
NO_NOUNS = frozenset(
    "because since and or as so is are was the a an I we it that this which if then but not to at itself"
    " for with by from when where plus minus along would must should could can cannot will be has have does no nor"
    " tens halves fails failed fail contradicts violates works cancels"
    " wrong incorrect false impossible true right correct wait actually sorry oops"
    " unless iff never rather instead except without while whereas than provided assuming although though"
    " despite".split()
)
NO_UNIT = frozenset(  # words that judge, compare or restrict: a text with one of them counts nothing
    "or but not never is are was were too least most unless iff when where whereas rather instead except than itself"
    " fails wrong incorrect rejected".split()
)
MULTIPLIERS = frozenset(  # what they stand behind is not that number: 48 pairs are not 48
    "pair couple score grand gross half doubled halved tripled quadrupled negated inverted reversed backwards"
    " reciprocal repeating recurring".split()
)
MEASURED = frozenset("away long tall high wide deep thick old late early apart ago each altogether".split())
POWERS = {"squared": 2, "cubed": 3}
_NOT_ALONE = NO_NOUNS | POWERS.keys() | {"factorial"}
FACTORS = {"square": 2, "sq": 2, "cubic": 3, "cu": 3}


def is_pure(unit: str) -> bool:
    """Per cent, degrees and radians are numbers, so 50% is 1/2; metres are not."""
    return unit in UNITS and UNITS[unit][0] == "%"


def named_unit(text: str) -> Node:
    """Words inside \\text or after a number: a unit, `square feet`, `miles per hour`, `million`, what is counted."""
    words = text.replace("-", " ").split()
    power = 1
    if len(words) == 2 and words[0] in UNITS and words[1] in MEASURED:  # 5 km away
        words = words[:1]
    if not NO_UNIT.isdisjoint(words) or (len(words) == 1 and words[0] in _NOT_ALONE):
        raise Unparsed(f"text {text!r}")
    if words and words[0].lower() in SCALES:
        scale: Node = ("num", Fraction(SCALES[words[0].lower()]))
        rest = words[2:] if words[1:2] == ["of"] else words[1:]
        return ("mul", scale, named_unit(" ".join(rest))) if rest else scale
    if words and words[0].lower() in FACTORS:
        power, words = FACTORS[words[0].lower()], words[1:]
    if words[:1] == ["per"] and words[1:2] != ["cent"]:
        return ("div", ("num", Fraction(1)), named_unit(" ".join(words[1:])))
    if "per" in words or "/" in text:
        top, _, bottom = text.partition(" per ") if "per" in words else text.partition("/")
        return ("div", named_unit(top), named_unit(bottom))
    if len(words) > 1 and words[-1].lower() in POWERS:
        power, words = POWERS[words[-1].lower()], words[:-1]
    name = " ".join(words)
    if match := re.fullmatch(r"([a-zA-Z]+)\^([23])", name):
        name, power = match[1], int(match[2])
    if name in ("e", "i"):
        return ("const", name)
    if not name or not re.fullmatch(r"[a-zA-Z%°]+(?: [a-zA-Z]+){0,3}\.?", name):
        raise Unparsed(f"text {text!r}")
    name = name.rstrip(".")
    if name not in UNITS and name.lower() in UNITS:
        name = name.lower()
    if name not in UNITS:
        name = name.lower()
        name = name[:-1] if name.endswith("s") and not name.endswith("ss") else name
    node: Node = ("unit", name)
    return node if power == 1 else ("pow", node, ("num", Fraction(power)))
