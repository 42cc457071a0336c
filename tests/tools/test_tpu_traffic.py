"""The bytes that compiled TPU text moves, against counts made by hand."""

import pytest

from tpu_traffic import UnknownTrafficError, hbm_bytes

# A weight is fetched ahead of its use; a sum goes back to HBM; two branches, of which one copies.
DECODER = """\
%branch.1 (p: f32[8,128]) -> f32[8,128] {
  ROOT %p = f32[8,128]{1,0:T(8,128)} parameter(0)
}

%branch.2 (p: f32[8,128]) -> f32[8,128] {
  %p = f32[8,128]{1,0:T(8,128)} parameter(0)
  ROOT %copy.1 = f32[8,128]{1,0:T(8,128)} copy(%p)
}

ENTRY %main (x: bf16[8,64], w: bf16[64,128]) -> f32[8,128] {
  %x = bf16[8,64]{1,0:T(8,128)(2,1)} parameter(0)
  %w = bf16[64,128]{1,0:T(8,128)(2,1)} parameter(1)
  %copy-start = (bf16[64,128]{1,0:T(8,128)(2,1)S(1)}, bf16[64,128]{1,0:T(8,128)(2,1)}, u32[]{:S(2)}) copy-start(%w)
  %copy-done = bf16[64,128]{1,0:T(8,128)(2,1)S(1)} copy-done(%copy-start)
  %sum = f32[8,128]{1,0:T(8,128)} fusion(%x, %copy-done), kind=kOutput, calls=%fused
  %which = s32[]{:T(128)S(6)} constant(0)
  ROOT %out = f32[8,128]{1,0:T(8,128)} conditional(%which, %sum, %sum), branch_computations={%branch.1, %branch.2}
}
"""
# What a step adds to a table goes to another core of the chip, which is told by a token.
ADDED = """\
ENTRY %main (table: s32[64,1024], ids: s32[64], more: s32[64]) -> s32[64,1024] {
  %table = s32[64,1024]{1,0:T(8,128)} parameter(0)
  %ids = s32[64]{0:T(128)} parameter(1)
  %more = s32[64]{0:T(128)} parameter(2)
  %ready = token[] custom-call(), custom_call_target="PrepareAsyncCallDone"
  %start = ((s32[64,1024]{1,0}, s32[64]{0}, s32[64]{0}, token[]), s32[64,1024]{1,0}) call-start(%table, %ids, %more, \
%ready), to_apply=%scatter, metadata={op_name="jit(draw)/scatter-add" stack_frame_id=1}
  ROOT %done = s32[64,1024]{1,0} call-done(%start), metadata={op_name="jit(draw)/scatter-add" stack_frame_id=1}
}
"""
LOOP = """\
ENTRY %main (x: f32[8]) -> f32[8] {
  %x = f32[8]{0:T(128)} parameter(0)
  ROOT %out = f32[8]{0:T(128)} while(%x), condition=%more, body=%step
}
"""


def test_what_lies_in_fast_memory_does_not_count() -> None:
    x, weight, total = 8 * 64 * 2, 64 * 128 * 2, 8 * 128 * 4
    assert hbm_bytes(DECODER) == x + weight + total


def test_what_is_added_to_a_table_in_its_place() -> None:
    assert hbm_bytes(ADDED) == 2 * 64 * 4  # read from HBM, and written to it


@pytest.mark.parametrize("text", [LOOP, ADDED.replace("/scatter-add", "/other")])
def test_loops_and_calls_are_refused(text: str) -> None:
    with pytest.raises(UnknownTrafficError, match="cannot be counted"):
        hbm_bytes(text)
