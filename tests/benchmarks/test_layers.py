"""benchmarks/layers.py knows the layers of a network, and benchmarks/compiled.py the operations of a program."""

from types import SimpleNamespace

from benchmarks import compiled, layers
from ctd_jax import models

PROGRAM = """HloModule jit_f, is_scheduled=true

%fused_computation (param_0: f32[8,4]) -> f32[4,8] {
  %param_0 = f32[8,4]{1,0} parameter(0)
  ROOT %transpose.1 = f32[4,8]{1,0} transpose(%param_0), dimensions={1,0}
}

%fused_computation.1 (param_0.1: f32[8,4], param_1: f32[4,16]) -> f32[8,16] {
  %param_0.1 = f32[8,4]{1,0} parameter(0)
  %param_1 = f32[4,16]{1,0} parameter(1)
  ROOT %dot.1 = f32[8,16]{1,0} dot(%param_0.1, %param_1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%fused_computation.2 (param_0.2: f32[8,16]) -> pred[8,16] {
  %param_0.2 = f32[8,16]{1,0} parameter(0)
  ROOT %compare.1 = pred[8,16]{1,0} compare(%param_0.2, %param_0.2), direction=GT
}

ENTRY %main.5 (x.1: f32[8,4], k.1: f32[4,16]) -> (pred[8,16], f32[4,8]) {
  %x.1 = f32[8,4]{1,0} parameter(0), metadata={op_name="x"}
  %k.1 = f32[4,16]{1,0} parameter(1), metadata={op_name="k"}
  %a_fusion = f32[4,8]{1,0} fusion(%x.1), kind=kLoop, calls=%fused_computation
  %ynn_fusion = f32[8,16]{1,0} fusion(%x.1, %k.1), kind=kCustom, calls=%fused_computation.1, backend_config={"fusion_config":{"kind":"__ynn_fusion"}}
  %b_fusion = pred[8,16]{1,0} fusion(%ynn_fusion), kind=kLoop, calls=%fused_computation.2
  %dot.2 = f32[4,4]{1,0} dot(%x.1, %x.1), lhs_contracting_dims={0}, rhs_contracting_dims={0}
  ROOT %tuple = (pred[8,16]{1,0}, f32[4,8]{1,0}) tuple(%b_fusion, %a_fusion)
}
"""  # noqa: E501


def test_operations_of_a_program_with_their_bytes():
    found = [(one.kind, one.bytes) for one in compiled.operations(PROGRAM)]
    read, kernel, out = 8 * 4 * 4, 4 * 16 * 4, 8 * 16
    want = [("move", 2 * read), ("library", read + kernel + 4 * out), ("loop", 4 * out + out), ("Eigen", 2 * read + 64)]
    assert found == want


def test_layers_of_a_network_and_their_operations_by_hand():
    config = SimpleNamespace(network="encoder_decoder", decoder="dense", decoder_channels=(8,), deconv="phases")
    network, encoder = layers.layers_of(models.build(config, encoder={"name": "resnet8"}, num_landmarks=5), 64)
    deconvolution = layers.Layer(deconvolution=True, kernel=4, stride=2, map=4, inputs=128, outputs=8)
    last = layers.Layer(deconvolution=False, kernel=1, stride=1, map=8, inputs=8, outputs=5)
    stem = layers.Layer(deconvolution=False, kernel=7, stride=2, map=64, inputs=3, outputs=32)
    assert {deconvolution, last} == set(network - encoder)
    assert encoder[stem] == network[stem] == 1
    assert deconvolution.flops == 2 * 4 * 4 * 16 * 128 * 8
    assert stem.flops == 2 * 32 * 32 * 7 * 7 * 3 * 32
