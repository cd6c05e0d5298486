"""Units of measure and the conversion between them.

Pure computation: called by app.py with values that are already numbers, knows
nothing of events, paths or status codes.
"""

import math

# Quantity -> unit -> (factor, offset): a value in the base unit is value * factor + offset.
TABLE = {
    "length": {
        "m": (1, 0),
        "km": (1000, 0),
        "cm": (0.01, 0),
        "in": (0.0254, 0),
        "ft": (0.3048, 0),
        "mi": (1609.344, 0),
    },
    "mass": {"kg": (1, 0), "g": (0.001, 0), "lb": (0.45359237, 0), "oz": (0.028349523125, 0)},
    "temperature": {"K": (1, 0), "C": (1, 273.15), "F": (5 / 9, 273.15 - 32 * 5 / 9)},
}
DIGITS = 12  # significant ones; hides the noise of binary fractions
LARGEST = 1e300  # every conversion of it is still a finite number

QUANTITY_OF = {unit: quantity for quantity, units in TABLE.items() for unit in units}


class ConversionError(ValueError):
    """A conversion that makes no sense; `field` says which argument is at fault."""

    def __init__(self, field, message):
        super().__init__(message)
        self.field = field


def quantities():
    return sorted(TABLE)


def units_of(quantity):
    return sorted(TABLE[quantity])


def convert(value, from_unit, to_unit):
    source, target = quantity_of("from", from_unit), quantity_of("to", to_unit)
    if source != target:
        raise ConversionError("to", f"{from_unit} is a {source}, {to_unit} is a {target}")
    if not abs(value) <= LARGEST:  # written so that NaN is refused too
        raise ConversionError("value", f"must be between -{LARGEST} and {LARGEST}")
    factor, offset = TABLE[source][from_unit]
    base = value * factor + offset
    if source == "temperature" and base < 0:
        raise ConversionError("value", f"{value} {from_unit} is below absolute zero")
    factor, offset = TABLE[target][to_unit]
    return significant((base - offset) / factor)


def quantity_of(field, unit):
    if not isinstance(unit, str) or unit not in QUANTITY_OF:
        raise ConversionError(field, f"unknown unit {unit!r}, known are {', '.join(QUANTITY_OF)}")
    return QUANTITY_OF[unit]


def significant(value):
    if value == 0:
        return value
    return round(value, DIGITS - 1 - math.floor(math.log10(abs(value))))
