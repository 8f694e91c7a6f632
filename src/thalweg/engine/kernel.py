"""C kernels: written from a traced formula, compiled once by the system's compiler, kept."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch

from thalweg.core import files
from thalweg.core.errors import ThalwegError
from thalweg.engine.storage import BLOCK, CODES
from thalweg.engine.trace import Formula


class NoCompilerError(ThalwegError):
    """No C compiler was found, or it failed."""


STORAGE = {
    torch.float32: "float",
    torch.float64: "double",
    torch.bfloat16: "bf16",
    torch.float16: "_Float16",
    torch.int8: "int8_t",
    torch.uint8: "uint8_t",
}

_FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-std=gnu11", "-fPIC")

# The number in ``k`` that random bits depend on, where state is rounded stochastically.
ROUNDING = "rounding_step"

# Below this many entries, waking the other threads costs more than it saves.
SERIAL = 32768

PREAMBLE = """
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__x86_64__) && defined(__GLIBC_PREREQ) && !defined(__clang__)
#if __GLIBC_PREREQ(2, 35)  /* has vectors of these, which compilers use only if they are told */
#define VECTOR1(name) _Pragma("omp declare simd notinbranch") extern double name(double); \\
  _Pragma("omp declare simd notinbranch") extern float name##f(float);
#define VECTOR2(name) _Pragma("omp declare simd notinbranch") extern double name(double, double); \\
  _Pragma("omp declare simd notinbranch") extern float name##f(float, float);
VECTOR1(exp) VECTOR1(log) VECTOR1(tanh) VECTOR1(cbrt) VECTOR2(pow) VECTOR2(atan2)
#endif
#endif
typedef struct { uint16_t bits; } bf16;
static inline float load_bf16(bf16 x) {
  uint32_t u = (uint32_t)x.bits << 16; float f; memcpy(&f, &u, 4); return f;
}
static inline bf16 store_bf16(float f) {
  uint32_t u; memcpy(&u, &f, 4);
  uint32_t rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  bf16 x = { (uint16_t)(f != f ? 0x7fc0 : rounded) };
  return x;
}
static inline uint32_t random16(int64_t place, uint32_t step, uint32_t salt) {
  uint32_t x = (uint32_t)place * 0x9e3779b1u + step * 0x85ebca77u + salt * 0xc2b2ae3du;
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return (x ^ (x >> 16)) & 0xffff;
}
static inline bf16 store_rounded(float f, uint32_t random) {
  uint32_t u; memcpy(&u, &f, 4);
  uint32_t plain = (u >> 16) | (f != f ? 0x40 : 0);
  bf16 x = { (uint16_t)((u & 0x7f800000u) == 0x7f800000u ? plain : (u + random) >> 16) };
  return x;
}
"""


class Kernel:
    """One compiled loop.

    It takes, for each tensor of a list, the addresses of its gradient, its parameter and its
    state, and runs the formula over all entries of all of them in one parallel region.
    """

    def __init__(
        self,
        formula: Formula,
        arrays: Sequence[str],
        numbers: Sequence[str],
        each: Sequence[str],
        dtypes: Sequence,
        stochastic: bool = False,
    ) -> None:
        self.sums = tuple(formula.sums)
        self._numbers = ctypes.c_double * len(numbers)
        self._run = load(_source(formula, arrays, numbers, each, dtypes, stochastic))

    def __call__(
        self,
        addresses: np.ndarray,
        sizes: np.ndarray,
        entries: int,
        values: Sequence[float],
        each: Sequence[Sequence[float]],
    ) -> np.ndarray:
        """Run over a list of tensors.

        Args:
            addresses: for each of ``arrays`` those of all tensors, int64.
            sizes: number of entries by tensor, int64.
            entries: their sum.
            values: in the order of ``numbers``.
            each: for each tensor its own numbers, in the order of ``each``; empty if none.

        Returns:
            The sums of each tensor, shape (tensors, sums), float64, in the order of ``sums``.
        """
        threads = torch.get_num_threads() if entries > SERIAL else 1
        count = len(sizes)
        # Little runs between two updates, so each call finds its code out of the cache: what is
        # not needed is not built.
        own = np.array(each, dtype=np.float64).ctypes if each else None
        sums = np.zeros((threads, count, len(self.sums))) if self.sums else None
        self._run(
            count,
            sizes.ctypes,
            addresses.ctypes,
            self._numbers(*values),
            own,
            None if sums is None else sums.ctypes,
            threads,
        )
        return np.empty((count, 0)) if sums is None else sums.sum(axis=0)


def _source(
    formula: Formula,
    arrays: Sequence[str],
    numbers: Sequence[str],
    each: Sequence[str],
    dtypes: Sequence,
    stochastic: bool,
) -> str:
    wide = torch.float64 in dtypes
    suffix = "" if wide else "f"
    lines = [PREAMBLE, f"typedef {'double' if wide else 'float'} T;"]
    lines += [
        f"#define {name} {name.lower()}{suffix}"
        for name in ("SQRT", "CBRT", "FABS", "POW", "EXP", "LOG", "TANH", "ATAN2")
    ]
    columns = [_Column(*one, stochastic) for one in zip(arrays, dtypes, strict=True)]
    sums = list(formula.sums)
    arguments = ", ".join(argument for one in columns for argument in one.arguments)
    lines.append(
        f"static void span(int64_t place, int64_t n, {arguments}, const double *restrict k, "
        "const double *restrict each, double *sums) {"
    )
    lines += [f"  const double k_{name} = k[{i}];" for i, name in enumerate(numbers)]
    lines += [f"  const double k_{name} = each[{i}];" for i, name in enumerate(each)]
    lines += [f"  {line}" for line in formula.once]
    lines += [f"  double sum_{name} = 0;" for name in sums]
    # Sums of a block are taken in T, which is faster, and added up in double.
    blocked = any(one.coded for one in columns) or bool(sums)
    if blocked:
        lines.append(f"  for (int64_t start = 0; start < n; start += {BLOCK}) {{")
        lines.append(f"  const int64_t end = n - start < {BLOCK} ? n : start + {BLOCK};")
        lines += [line for one in columns for line in one.decoding()]
    else:
        lines.append("  const int64_t start = 0, end = n;")
    lines += [f"  T part_{name} = 0;" for name in sums]
    reduced = f" reduction(+: {', '.join(f'part_{name}' for name in sums)})" if sums else ""
    lines.append(f"  #pragma omp simd{reduced}")
    lines.append("  for (int64_t i = start; i < end; i++) {")
    lines += [f"    const T in_{one.name} = {one.load};" for one in columns]
    lines += [f"    {line}" for line in formula.each]
    stored = [one for one in columns if one.name in formula.stores]
    for salt, one in enumerate(columns[2:]):
        one.salt = salt
    lines += [f"    {one.store(formula.stores[one.name])}" for one in stored]
    lines += [f"    part_{name} += (T){value};" for name, value in formula.sums.items()]
    lines.append("  }")
    lines += [f"  sum_{name} += (double)part_{name};" for name in sums]
    if blocked:
        lines += [line for one in stored for line in one.encoding()]
        lines.append("  }")
    lines += [f"  sums[{i}] += sum_{name};" for i, name in enumerate(sums)]
    lines.append("}")
    kinds = [kind for one in columns for kind in one.kinds]
    lines.append(_driver(kinds, len(each), len(sums), BLOCK if blocked else 1))
    return "\n".join(lines) + "\n"


class _Column:
    """How one array is read and written: plainly, rounded stochastically, or as codes."""

    def __init__(self, name: str, dtype: torch.dtype, stochastic: bool) -> None:
        self.name, self.kind = name, STORAGE[dtype]
        self.largest = CODES.get(dtype, 0)
        self.coded = dtype in CODES
        self.rounded = stochastic and dtype == torch.bfloat16 and name not in ("g", "p")
        self.salt = 0

    @property
    def kinds(self) -> list[str]:
        return [self.kind, "scale"] if self.coded else [self.kind]

    @property
    def arguments(self) -> list[str]:
        own = f"{self.kind} *restrict a_{self.name}"
        return [own, f"float *restrict c_{self.name}"] if self.coded else [own]

    @property
    def load(self) -> str:
        if self.coded:
            return f"b_{self.name}[i - start]"
        return f"load_bf16(a_{self.name}[i])" if self.kind == "bf16" else f"(T)a_{self.name}[i]"

    def store(self, value: str) -> str:
        if self.coded:
            return f"b_{self.name}[i - start] = {value};"
        if self.rounded:
            return f"a_{self.name}[i] = store_rounded((float){value}, {self._random});"
        if self.kind == "bf16":
            return f"a_{self.name}[i] = store_bf16({value});"
        return f"a_{self.name}[i] = ({self.kind}){value};"

    @property
    def _random(self) -> str:
        return f"random16(place + i, (uint32_t)k_{ROUNDING}, {self.salt}u)"

    def decoding(self) -> list[str]:
        """Return the lines that fill the block's buffer."""
        if not self.coded:
            return []
        name = self.name
        return [
            f"  T b_{name}[{BLOCK}]; const float s_{name} = c_{name}[start / {BLOCK}];",
            "  #pragma omp simd",
            "  for (int64_t i = start; i < end; i++) {",
            f"    const float r = (float)a_{name}[i] * {1 / self.largest!r}f;",
            f"    b_{name}[i - start] = r * r * r * fabsf(r) * s_{name};",
            "  }",
        ]

    def encoding(self) -> list[str]:
        """Return the lines that write the block's codes and scale."""
        if not self.coded:
            return []
        name, zero = self.name, "code"
        if self.largest == 255:
            zero = "v > 0 && code < 1 ? 1 : code"  # what may be divided by does not become zero
        return [
            f"  float m_{name} = 0, n_{name} = 0;",
            f"  #pragma omp simd reduction(max: m_{name}) reduction(+: n_{name})",
            "  for (int64_t i = start; i < end; i++) {",
            f"    const float v = (float)b_{name}[i - start], w = fabsf(v);",
            f"    m_{name} = w > m_{name} ? w : m_{name}; n_{name} += v * 0;",
            "  }",
            f"  c_{name}[start / {BLOCK}] = m_{name} + n_{name};",
            "  #pragma omp simd",
            "  for (int64_t i = start; i < end; i++) {",
            f"    const float v = (float)b_{name}[i - start];",
            f"    const float share = m_{name} + n_{name} > 0 ? fabsf(v) / m_{name} : 0;",
            f"    const float random = (float){self._random} * 0x1p-16f;",
            f"    float code = floorf(sqrtf(sqrtf(share)) * {self.largest} + random);",
            f"    code = code > {self.largest} ? {self.largest} : code; code = {zero};",
            f"    a_{name}[i] = ({self.kind})(v < 0 ? -code : v > 0 ? code : 0);",
            "  }",
        ]


def _driver(kinds: Sequence[str], each: int, sums: int, block: int) -> str:
    """Return the C function that cuts the entries of all tensors evenly among the threads."""
    pointers = ", ".join(
        f"(float *)pointers[{j} * count + i] + low / {BLOCK}"
        if kind == "scale"
        else f"({kind} *)pointers[{j} * count + i] + low"
        for j, kind in enumerate(kinds)
    )
    return f"""
void run(int64_t count, const int64_t *sizes, void *const *pointers, const double *k,
         const double *each, double *sums, int64_t threads) {{
  int64_t total = 0;
  for (int64_t i = 0; i < count; i++) total += sizes[i];
#ifdef _OPENMP
  #pragma omp parallel num_threads((int)threads) if (threads > 1)
#endif
  {{
#ifdef _OPENMP
    const int64_t me = omp_get_thread_num(), all = omp_get_num_threads();
#else
    const int64_t me = 0, all = 1;
#endif
    const int64_t first = total * me / all, last = total * (me + 1) / all;
    int64_t start = 0;
    for (int64_t i = 0; i < count && start < last; start += sizes[i], i++) {{
      int64_t low = first > start ? first - start : 0;
      int64_t high = last - start < sizes[i] ? last - start : sizes[i];
      if ({block} > 1) {{
        low = (low + {block - 1}) / {block} * {block};
        high = (high + {block - 1}) / {block} * {block};
        high = high < sizes[i] ? high : sizes[i];
      }}
      if (low < high)
        span(low, high - low, {pointers}, k, each + i * {each}, sums + (me * count + i) * {sums});
    }}
  }}
}}"""


@cache
def find_compiler() -> str | None:
    """Return the path of a C compiler (``$CC``, cc, gcc or clang), or None."""
    for name in (os.environ.get("CC", ""), "cc", "gcc", "clang"):
        if name and (path := shutil.which(name)):
            return path
    return None


def cache_folder() -> Path:
    """Return where compiled kernels are kept: ``$THALWEG_CACHE`` or the user's cache folder."""
    return files.cache_folder("kernels")


@cache
def load(source: str):
    """Return the C function ``run`` of a source: (count, five pointers, threads).

    Raises:
        NoCompilerError: no C compiler was found, or it failed.
    """
    compiler = find_compiler()
    if compiler is None:
        raise NoCompilerError("no C compiler was found (looked for $CC, cc, gcc and clang)")
    key = "\0".join((source, _compiler_version(compiler), *_FLAGS, _processor()))
    name = hashlib.sha256(key.encode()).hexdigest()[:32]
    _share_openmp()
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        trusted = folder.stat().st_uid == os.getuid() and os.access(folder, os.W_OK)
    except OSError:
        trusted = False
    if not trusted:
        # Never load code from a folder that someone else could have written to.
        folder = Path(tempfile.mkdtemp(prefix="thalweg-"))
    library = folder / f"{name}.so"
    if not library.exists():
        _compile(compiler, source, library)
    try:
        run = ctypes.CDLL(str(library)).run
    except OSError as error:
        raise NoCompilerError(f"the kernel {library} does not load: {error}") from error
    run.restype = None
    run.argtypes = [ctypes.c_int64, *[ctypes.c_void_p] * 5, ctypes.c_int64]
    return run


def _compile(compiler: str, source: str, library: Path) -> None:
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        code, built = Path(folder) / "kernel.c", Path(folder) / "kernel.so"
        code.write_text(source)
        # -fopenmp is left out when linking: the runtime is the one that torch has loaded.
        attempts = [("-fopenmp",), ("-Xclang", "-fopenmp"), ("-fopenmp-simd",), ()]
        for attempt in attempts if _share_openmp() else attempts[2:]:
            compiled = subprocess.run(
                [compiler, *_FLAGS, *attempt, "-c", str(code), "-o", f"{built}.o"],
                capture_output=True,
                text=True,
                check=False,
            )
            if compiled.returncode == 0:
                break
        else:
            raise NoCompilerError(f"{compiler} could not compile a kernel:\n{compiled.stderr}")
        undefined = ("-undefined", "dynamic_lookup") if platform.system() == "Darwin" else ()
        linked = subprocess.run(
            [compiler, "-shared", *undefined, f"{built}.o", "-o", str(built), *_libraries()],
            capture_output=True,
            text=True,
            check=False,
        )
        if linked.returncode != 0:
            raise NoCompilerError(f"{compiler} could not link a kernel:\n{linked.stderr}")
        os.replace(built, library)


def _libraries() -> list[str]:
    name, version = platform.libc_ver()
    known = [int(part) for part in version.split(".")[:2]] if name == "glibc" else []
    vectors = platform.machine() == "x86_64" and known >= [2, 35]
    return ["-lmvec", "-lm"] if vectors else ["-lm"]


@cache
def _share_openmp() -> bool:
    """Make the OpenMP runtime that torch uses visible to kernels; return whether there is one.

    A second runtime would bring a second pool of threads, which compete with torch's.
    """
    for pattern in ("libgomp*", "libomp*", "libiomp*"):
        for path in sorted((Path(torch.__file__).parent / "lib").glob(pattern)):
            try:
                ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
            except OSError:
                continue
            return True
    return False


@cache
def _compiler_version(compiler: str) -> str:
    asked = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=False)
    return asked.stdout


@cache
def _processor() -> str:
    """Return what -march=native depends on, so that machines that share a home do not mix."""
    try:
        facts = Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    kept = ("vendor_id", "cpu family", "model", "flags", "Features", "CPU part")
    return "\n".join(line for line in facts if line.split(":")[0].strip() in kept)
