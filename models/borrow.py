"""Arrays inside a kernel without their reference counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

from numba.core import types
from numba.extending import intrinsic


@intrinsic
def _borrowed(_: Any, arrays: Any) -> Any:
    def without_counts(context: Any, builder: Any, _: Any, arguments: Any) -> Any:
        members = [builder.extract_value(arguments[0], i) for i in range(len(arrays.types))]
        for i, kind in enumerate(arrays.types):
            if isinstance(kind, types.Array):
                array = context.make_helper(builder, kind, value=members[i])
                array.meminfo = context.get_constant_null(types.voidptr)
                members[i] = array._getvalue()
        return context.make_tuple(builder, arrays, members)

    return arrays(arrays), without_counts


borrowed: Final = cast("Callable[[Any], Any]", _borrowed)
"""The same named tuple, with arrays that nobody counts. For kernels that return none of them.

Numba counts every array of a tuple up and down again, one locked instruction each, in every function that the tuple is
handed to. The caller of a kernel holds the arrays until it returns, so that is for nothing: of the 4.6 µs that
`close_slots` took for a slot these were 1.7 µs, and with its parts compiled into it 3.1 µs (2026-11-24).
"""
