"""Which errors say that memory was too small: torch has a type for a GPU's, and words for all others."""

import errno

import torch

_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",
    "DefaultCPUAllocator: not enough memory",  # Windows
    "CUDA error: out of memory",  # and other calls of CUDA's that torch's own allocator does not make
    "CUDA driver error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "DEVICE_ALLOCATION_FAILED",  # cuDNN 9
    "CUSOLVER_STATUS_ALLOC_FAILED",
    "CUFFT_ALLOC_FAILED",
    "unable to find an engine to execute this computation",  # no algorithm's workspace fits
    "std::bad_alloc",
)


def out_of_memory(error: BaseException) -> bool:
    """Say whether an error means that memory, a GPU's or the machine's, was too small for what was asked."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
        return any(words in str(error) for words in _WORDS)
    return isinstance(error, (torch.OutOfMemoryError, MemoryError))
