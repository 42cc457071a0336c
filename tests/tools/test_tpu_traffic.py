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
# Each turn reads a part of what the loop carries, and writes a part of it.
LOOP = """\
%more (c: (s32[], f32[4,256], f32[4,256])) -> pred[] {
  %c = (s32[]{:T(128)}, f32[4,256]{1,0:T(4,128)}, f32[4,256]{1,0:T(4,128)}) parameter(0)
  %turn = s32[]{:T(128)} get-tuple-element(%c), index=0
  %limit = s32[]{:T(128)} constant(4)
  ROOT %lt = pred[]{:T(512)S(6)} compare(%turn, %limit), direction=LT
}

%step (b: (s32[], f32[4,256], f32[4,256])) -> (s32[], f32[4,256], f32[4,256]) {
  %b = (s32[]{:T(128)}, f32[4,256]{1,0:T(4,128)}, f32[4,256]{1,0:T(4,128)}) parameter(0)
  %read = f32[4,256]{1,0:T(4,128)} get-tuple-element(%b), index=1
  %written = f32[4,256]{1,0:T(4,128)} get-tuple-element(%b), index=2
  %part = f32[1,512]{1,0:T(1,128)} fusion(%read), kind=kLoop, calls=%slice
  %put = f32[4,256]{1,0:T(4,128)} fusion(%part), kind=kLoop, calls=%update
  %turn = s32[]{:T(128)S(6)} constant(1)
  ROOT %next = (s32[]{:T(128)}, f32[4,256]{1,0:T(4,128)}, f32[4,256]{1,0:T(4,128)}) tuple(%turn, %read, %put)
}

ENTRY %main (x: f32[4,256], y: f32[4,256]) -> (s32[], f32[4,256], f32[4,256]) {
  %zero = s32[]{:T(128)S(6)} constant(0)
  %x = f32[4,256]{1,0:T(4,128)} parameter(0)
  %y = f32[4,256]{1,0:T(4,128)} parameter(1)
  %all = (s32[]{:T(128)}, f32[4,256]{1,0:T(4,128)}, f32[4,256]{1,0:T(4,128)}) tuple(%zero, %x, %y)
  ROOT %out = (s32[]{:T(128)}, f32[4,256]{1,0}, f32[4,256]{1,0}) while(%all), condition=%more, body=%step
}
"""


def test_what_lies_in_fast_memory_does_not_count() -> None:
    x, weight, total = 8 * 64 * 2, 64 * 128 * 2, 8 * 128 * 4
    assert hbm_bytes(DECODER) == x + weight + total


def test_what_is_added_to_a_table_in_its_place() -> None:
    assert hbm_bytes(ADDED) == 2 * 64 * 4  # read from HBM, and written to it


def test_a_loop_goes_over_its_arrays_once() -> None:
    read, written, part = 4 * 256 * 4, 4 * 256 * 4, 4 * 512 * 4  # the parts of all four turns
    assert hbm_bytes(LOOP) == read + written + 2 * part  # a part is written, and read again


@pytest.mark.parametrize("text", [LOOP.replace("LT", "NE"), ADDED.replace("/scatter-add", "/other")])
def test_what_the_text_does_not_tell_is_refused(text: str) -> None:
    with pytest.raises(UnknownTrafficError):
        hbm_bytes(text)
