r"""Colour maps whose steps look equally large, for surfaces, pages and exports.

A map is evenly spaced when equal steps of the value are equal steps of colour, measured as the
Euclidean distance in OKLab (Ottosson, "A perceptual color space for image processing", 2020).
"""

from functools import lru_cache

import numpy as np
from scipy.interpolate import PchipInterpolator

from thalweg.core.errors import UsageError, did_you_mean

SIZE = 256
"""Colours of a map."""

_PUBLISHED = {
    "viridis": (
        "44015446085c471063481769481d6f482475472a7a46307e453781433d844142873f48893d4e8a"
        "3a538b38598c355e8d33638d31688e2e6d8e2c718e2a768e297b8e27808e25848e23898e218e8d"
        "20928c1f978b1e9c891fa18821a58524aa8328ae802eb37c35b7793dbc7446c06f50c46a5ac864"
        "65cb5e70cf577cd25089d54895d840a2da37b0dd2fbddf26cae11fd8e219e5e419f1e51dfde725"
    ),
    "cividis": (
        "00224e002656002a5f002d68003070083370163770203a6f273e6e2e416d34456c3a486c3f4c6c"
        "444f6c49536c4e566c535a6d575d6d5c616e60646f656870696b716d6f727272747676767a7a78"
        "7e7d788381798885788d8878928c789690779b9476a09875a59c74aaa073afa471b5a86fbaac6d"
        "bfb06bc4b468c9b965cfbd62d4c15fdac65bdfca57e5cf52ead34cf0d846f6dd3ffce236fee838"
    ),
}
"""Every fifth of the 256 colours of matplotlib's maps, six digits each.

viridis: van der Walt & Smith, 2015, CC0; cividis: Nunez, Anderton & Renslow, "Optimizing
colormaps with consideration for color vision deficiency", PLOS ONE 2018.
"""

_PATHS: dict[str, tuple[tuple[float, float, float], ...]] = {
    # Deep water, shallow water, sand: lightness, chroma and hue in degrees of OKLab.
    "tarn": (
        (0.24, 0.050, 250.0),
        (0.38, 0.062, 232.0),
        (0.53, 0.073, 205.0),
        (0.68, 0.080, 175.0),
        (0.81, 0.075, 130.0),
        (0.90, 0.065, 95.0),
        (0.965, 0.028, 85.0),
    ),
    # Night, violet, embers, straw.
    "ember": (
        (0.18, 0.050, 280.0),
        (0.32, 0.125, 300.0),
        (0.46, 0.160, 345.0),
        (0.60, 0.175, 385.0),
        (0.73, 0.155, 412.0),
        (0.85, 0.130, 440.0),
        (0.955, 0.060, 462.0),
    ),
}

NAMES = (*_PUBLISHED, *_PATHS)
"""The maps there are; each becomes lighter all the way."""


@lru_cache
def colour_map(name: str) -> np.ndarray:
    """Return a map as sRGB in bytes, shape (256, 3), from the lowest value to the highest.

    Raises:
        UsageError: there is no such map.
    """
    if name in _PUBLISHED:
        anchors = np.frombuffer(bytes.fromhex(_PUBLISHED[name]), np.uint8).reshape(-1, 3)
        spread = PchipInterpolator(np.linspace(0, 1, len(anchors)), anchors.astype(float))
        found = np.clip(np.rint(spread(np.linspace(0, 1, SIZE))), 0, 255).astype(np.uint8)
    elif name in _PATHS:
        found = _even(np.array(_PATHS[name]))
    else:
        raise UsageError(f'unknown colour map "{name}".{did_you_mean(name, NAMES)}')
    found.setflags(write=False)
    return found


def to_oklab(srgb: np.ndarray) -> np.ndarray:
    """Return OKLab coordinates of sRGB bytes, shape (..., 3)."""
    lms = np.cbrt(linear(srgb) @ _LMS.T)
    return lms @ _LAB.T


def linear(srgb: np.ndarray) -> np.ndarray:
    """Return linear light, from 0 to 1, of sRGB bytes."""
    x = np.asarray(srgb, dtype=np.float64) / 255
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def _even(path: np.ndarray) -> np.ndarray:
    """Return colours at equal distances along a path through OKLab."""
    fine = PchipInterpolator(np.linspace(0, 1, len(path)), path)(np.linspace(0, 1, 4096))
    angle = np.radians(fine[:, 2])
    lab = np.stack([fine[:, 0], fine[:, 1] * np.cos(angle), fine[:, 1] * np.sin(angle)], 1)
    length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(lab, axis=0), axis=1))])
    at = np.linspace(0, length[-1], SIZE)
    return _to_srgb(np.stack([np.interp(at, length, lab[:, k]) for k in range(3)], 1))


def _to_srgb(lab: np.ndarray) -> np.ndarray:
    light = np.linalg.solve(_LAB, lab.T) ** 3
    rgb = np.clip(np.linalg.solve(_LMS, light).T, 0, 1)
    coded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return np.rint(coded * 255).astype(np.uint8)


_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
