"""Mean squares of matrices, kept as their means over columns and over rows.

Both functions take a tensor as the matrices of its last two axes. On CPUs they run in C, which
goes through memory once where torch's operations would write several tensors of the same size.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from thalweg.engine.kernel import PREAMBLE, SERIAL, STORAGE, NoCompilerError, load


def average_squares_(
    row: Tensor, column: Tensor, x: Tensor, weight: float, floor: float = 0.0
) -> None:
    """Move means of ``x^2 + floor`` on, in place.

    Args:
        row: shape (..., n, 1), means over columns.
        column: shape (..., 1, m), means over rows.
        x: shape (..., n, m).
        weight: of the new squares; that of the old means is 1 - weight.
        floor: added to the squares.
    """
    if _runs_in_c(x, row, column):
        _run("average", x, row, column, x, weight, floor)
        return
    squares = x * x
    row.lerp_(squares.mean(-1, keepdim=True) + floor, weight)
    column.lerp_(squares.mean(-2, keepdim=True) + floor, weight)


def divided_by_root(
    x: Tensor, row: Tensor, column: Tensor, least_mean: float = 0.0, least: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return ``u = x / sqrt(max(v, least))``, ``v = row column / max(mean(row), least_mean)``.

    Args:
        x: shape (..., n, m).
        row: shape (..., n, 1).
        column: shape (..., 1, m).
        least_mean: at least 0.
        least: at least 0.

    Returns:
        u, and the norm of all its entries, 0-d.
    """
    if _runs_in_c(x, row, column):
        u = torch.empty_like(x)
        squares = _run("divide", x, row, column, u, least_mean, least)
        return u, torch.tensor(squares**0.5, dtype=x.dtype)
    means = row.mean(-2, keepdim=True).clamp(min=least_mean)
    # Not `row * column / means`: tiny ones would vanish, and 0 / 0 come out.
    u = x * (row / means * column).clamp(min=least).rsqrt()
    return u, torch.linalg.vector_norm(u)


_PLAIN = (Tensor, torch.nn.Parameter)


def _runs_in_c(*tensors: Tensor) -> bool:
    dtype = tensors[0].dtype
    return (
        dtype in (torch.float32, torch.float64)
        and all(type(x) in _PLAIN and x.is_cpu and x.dtype == dtype for x in tensors)
        and all(x.is_contiguous() and x.numel() > 0 for x in tensors)
        and _function("average", dtype) is not None
    )


def _run(name: str, x: Tensor, row: Tensor, column: Tensor, u: Tensor, *numbers: float) -> float:
    """Run a C function over all matrices and return its sum."""
    n, m = x.shape[-2:]
    threads = torch.get_num_threads() if x.numel() > SERIAL else 1
    memory = np.zeros((threads + 1, m + _CHUNK + 1))
    memory[0, :4] = n, m, *numbers
    _function(name, x.dtype)(
        x.numel() // (n * m),
        x.data_ptr(),
        row.data_ptr(),
        column.data_ptr(),
        u.data_ptr(),
        memory.ctypes.data,
        threads,
    )
    return memory[1:, 0].sum().item()


@cache
def _function(name: str, dtype: torch.dtype) -> Any:
    """Return the compiled function; None where there is no compiler."""
    root = "sqrtf" if dtype == torch.float32 else "sqrt"
    defined = f"typedef {STORAGE[dtype]} T;\n#define SQRT {root}\n#define CHUNK {_CHUNK}\n"
    try:
        return load(PREAMBLE + defined + _SHARED + {"average": _AVERAGE, "divide": _DIVIDE}[name])
    except NoCompilerError:
        return None


# Entries of a row that are added up in the tensor's own precision.
_CHUNK = 1024

_SHARED = r"""
#define INLINE static inline __attribute__((always_inline))
#define SMALL 64  /* entries of a matrix that is worked on as a whole, such as a kernel */
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#ifdef _OPENMP
#define PARALLEL _Pragma("omp parallel num_threads((int)threads) if (threads > 1)")
#define ME omp_get_thread_num()
#define ALL omp_get_num_threads()
#else
#define PARALLEL
#define ME 0
#define ALL 1
#endif
"""

_AVERAGE = r"""
INLINE T moved(T old, T new, T weight) { return (1 - weight) * old + weight * new; }

INLINE void small(const T *restrict x, T *restrict row, T *restrict column, int64_t n, int64_t m,
                  T weight, T floor) {
  const T by_n = (T)1 / n, by_m = (T)1 / m;
  T sums[SMALL];
  for (int64_t j = 0; j < m; j++) sums[j] = 0;
  for (int64_t i = 0; i < n; i++) {
    T sum = 0;
    for (int64_t j = 0; j < m; j++) {
      const T square = x[i * m + j] * x[i * m + j];
      sum += square;
      sums[j] += square;
    }
    row[i] = moved(row[i], sum * by_m + floor, weight);
  }
  for (int64_t j = 0; j < m; j++) column[j] = moved(column[j], sums[j] * by_n + floor, weight);
}

#define ALONE(n, m) \
  for (int64_t b = first; b < last; b++) \
    small(x + (n) * (m) * b, row + (n) * b, column + (m) * b, n, m, weight, floor);

/* Moves the means of some rows on, and adds the squares to the sums of the columns. */
static void rows(const T *x, T *row, double *sums, T *part, int64_t n, int64_t m, double weight,
                 double floor) {
  for (int64_t top = 0; top < n; top += 64) {
    const int64_t end = MIN(top + 64, n);
    double across[64] = {0};
    for (int64_t left = 0; left < m; left += CHUNK) {
      const int64_t width = MIN(CHUNK, m - left);
      for (int64_t j = 0; j < width; j++) part[j] = 0;
      for (int64_t i = top; i < end; i++) {
        const T *restrict at = x + i * m + left;
        T sum = 0;
        #pragma omp simd reduction(+: sum)
        for (int64_t j = 0; j < width; j++) {
          const T square = at[j] * at[j];
          sum += square;
          part[j] += square;
        }
        across[i - top] += sum;
      }
      for (int64_t j = 0; j < width; j++) sums[left + j] += part[j];
    }
    for (int64_t i = top; i < end; i++)
      row[i] = moved(row[i], across[i - top] / m + floor, weight);
  }
}

void run(int64_t count, const T *x, T *row, T *column, void *unused, double *memory,
         int64_t threads) {
  const int64_t n = memory[0], m = memory[1], stride = m + CHUNK + 1;
  const double weight = memory[2], floor = memory[3];
  PARALLEL
  {
    const int64_t me = ME, all = ALL, first = count * me / all, last = count * (me + 1) / all;
    double *own = memory + (me + 1) * stride + 1;
    if (n == 3 && m == 3) {
      #pragma omp simd
      ALONE(3, 3)
    } else if (n == 1 && m == 1) {
      #pragma omp simd
      ALONE(1, 1)
    } else if (n * m <= SMALL) {
      ALONE(n, m)
    } else {
      /* The rows of every matrix are shared out. */
      const int64_t low = n * me / all, high = n * (me + 1) / all;
      for (int64_t b = 0; b < count; b++) {
        for (int64_t j = 0; j < m; j++) own[j] = 0;
        rows(x + (b * n + low) * m, row + b * n + low, own, (T *)(own + m), high - low, m, weight,
             floor);
        #pragma omp barrier
        for (int64_t j = m * me / all; j < m * (me + 1) / all; j++) {
          double sum = 0;
          for (int64_t i = 0; i < all; i++) sum += memory[(i + 1) * stride + 1 + j];
          column[b * m + j] = moved(column[b * m + j], sum / n + floor, weight);
        }
        #pragma omp barrier
      }
    }
  }
}
"""

_DIVIDE = r"""
/* Divides some rows of a matrix and returns the sum of squares. */
INLINE double divided(const T *x, const T *row, const T *roots, T *u, int64_t n, int64_t m,
                      double mean, T most) {
  double squares = 0;
  for (int64_t i = 0; i < n; i++) {
    const T root = SQRT((T)(mean / row[i]));
    for (int64_t left = 0; left < m; left += CHUNK) {
      const int64_t end = MIN(left + CHUNK, m);
      T sum = 0;
      #pragma omp simd reduction(+: sum)
      for (int64_t j = left; j < end; j++) {
        const T factor = root * roots[j];
        const T value = x[i * m + j] * (factor > most ? most : factor);
        u[i * m + j] = value;
        sum += value * value;
      }
      squares += sum;
    }
  }
  return squares;
}

INLINE double prepared(const T *row, const T *column, T *roots, int64_t n, int64_t m,
                       double least_mean) {
  double mean = 0;
  for (int64_t i = 0; i < n; i++) mean += row[i];
  for (int64_t j = 0; j < m; j++) roots[j] = 1 / SQRT(column[j]);
  mean /= n;
  return mean < least_mean ? least_mean : mean;
}

/* Divides at most TOGETHER small matrices. */
#define TOGETHER 64
INLINE T small(const T *x, const T *row, const T *column, T *u, int64_t count, int64_t n, int64_t m,
               T least_mean, T most) {
  T left[TOGETHER * SMALL], right[TOGETHER * SMALL], squares = 0;
  for (int64_t b = 0; b < count; b++) {
    T mean = 0;
    for (int64_t i = 0; i < n; i++) mean += row[b * n + i];
    mean *= (T)1 / n;
    for (int64_t i = 0; i < n; i++) left[b * n + i] = mean < least_mean ? least_mean : mean;
  }
  for (int64_t i = 0; i < count * n; i++) left[i] = SQRT(left[i] / row[i]);
  for (int64_t j = 0; j < count * m; j++) right[j] = 1 / SQRT(column[j]);
  for (int64_t b = 0; b < count; b++)
    for (int64_t i = 0; i < n; i++)
      for (int64_t j = 0; j < m; j++) {
        const int64_t at = (b * n + i) * m + j;
        const T factor = left[b * n + i] * right[b * m + j];
        u[at] = x[at] * (factor > most ? most : factor);
      }
  #pragma omp simd reduction(+: squares)
  for (int64_t at = 0; at < count * n * m; at++) squares += u[at] * u[at];
  return squares;
}

#define ALONE(n, m) \
  for (int64_t b = first; b < last; b += TOGETHER) \
    squares += small(x + (n) * (m) * b, row + (n) * b, column + (m) * b, u + (n) * (m) * b, \
                     MIN(TOGETHER, last - b), n, m, least_mean, most);

void run(int64_t count, const T *x, const T *row, const T *column, T *u, double *memory,
         int64_t threads) {
  const int64_t n = memory[0], m = memory[1], stride = m + CHUNK + 1;
  const double least_mean = memory[2];
  const T most = 1 / sqrt(memory[3]);
  PARALLEL
  {
    const int64_t me = ME, all = ALL, first = count * me / all, last = count * (me + 1) / all;
    double squares = 0;
    if (n == 3 && m == 3) {
      ALONE(3, 3)
    } else if (n == 1 && m == 1) {
      ALONE(1, 1)
    } else if (n * m <= SMALL) {
      ALONE(n, m)
    } else {
      const int64_t low = n * me / all, high = n * (me + 1) / all;
      T *roots = (T *)(memory + (me + 1) * stride + 1);
      for (int64_t b = 0; b < count; b++) {
        const int64_t at = b * n + low;
        const double mean = prepared(row + b * n, column + b * m, roots, n, m, least_mean);
        squares += divided(x + at * m, row + at, roots, u + at * m, high - low, m, mean, most);
      }
    }
    memory[(me + 1) * stride] = squares;
  }
}
"""
