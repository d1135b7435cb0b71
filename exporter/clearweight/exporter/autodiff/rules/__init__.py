"""The table of VJP rules, and the operators that stop gradients. What is in neither is unsupported."""

from collections.abc import Mapping
from types import MappingProxyType

from clearweight.exporter.autodiff.op_key import DEFAULT_DOMAIN, OpKey
from clearweight.exporter.autodiff.rules.convolution import conv_transpose_vjp, conv_vjp
from clearweight.exporter.autodiff.rules.elementwise import (
    add_vjp,
    cast_vjp,
    clip_vjp,
    div_vjp,
    dropout_vjp,
    identity_vjp,
    leaky_relu_vjp,
    mul_vjp,
    relu_vjp,
    sigmoid_vjp,
    sub_vjp,
    tanh_vjp,
)
from clearweight.exporter.autodiff.rules.linear import gemm_vjp, matmul_vjp
from clearweight.exporter.autodiff.rules.normalization import batch_normalization_vjp, softmax_vjp
from clearweight.exporter.autodiff.rules.pooling import average_pool_vjp, max_pool_vjp
from clearweight.exporter.autodiff.rules.reduction import (
    global_average_pool_vjp,
    reduce_mean_vjp,
    reduce_sum_vjp,
)
from clearweight.exporter.autodiff.rules.shape import (
    concat_vjp,
    pad_vjp,
    reshape_vjp,
    slice_vjp,
    transpose_vjp,
)
from clearweight.exporter.autodiff.walker import Rule


def _key(op_type: str, since_version: int) -> OpKey:
    return OpKey(DEFAULT_DOMAIN, op_type, since_version)


RULES: Mapping[OpKey, Rule] = MappingProxyType(
    {
        # linear
        _key("Gemm", 13): gemm_vjp,
        _key("MatMul", 13): matmul_vjp,
        # convolution
        _key("Conv", 11): conv_vjp,
        _key("ConvTranspose", 11): conv_transpose_vjp,
        # elementwise
        _key("Add", 14): add_vjp,
        _key("Sub", 14): sub_vjp,
        _key("Mul", 14): mul_vjp,
        _key("Div", 14): div_vjp,
        _key("Relu", 14): relu_vjp,
        _key("LeakyRelu", 16): leaky_relu_vjp,
        _key("Clip", 13): clip_vjp,
        _key("Sigmoid", 13): sigmoid_vjp,
        _key("Tanh", 13): tanh_vjp,
        _key("Identity", 16): identity_vjp,
        _key("Dropout", 13): dropout_vjp,
        _key("Cast", 13): cast_vjp,
        # normalization
        _key("BatchNormalization", 15): batch_normalization_vjp,
        _key("Softmax", 13): softmax_vjp,
        # pooling
        _key("MaxPool", 12): max_pool_vjp,
        _key("AveragePool", 11): average_pool_vjp,
        _key("GlobalAveragePool", 1): global_average_pool_vjp,
        # reduction
        _key("ReduceSum", 13): reduce_sum_vjp,
        _key("ReduceMean", 13): reduce_mean_vjp,
        _key("ReduceMean", 18): reduce_mean_vjp,
        # shape
        _key("Flatten", 13): reshape_vjp,
        _key("Reshape", 14): reshape_vjp,
        _key("Squeeze", 13): reshape_vjp,
        _key("Unsqueeze", 13): reshape_vjp,
        _key("Transpose", 13): transpose_vjp,
        _key("Concat", 13): concat_vjp,
        _key("Slice", 13): slice_vjp,
        _key("Pad", 13): pad_vjp,
        _key("Pad", 18): pad_vjp,
    }
)

# Whole numbers, truth values and steps: their derivative is zero or does not exist, by declaration.
NON_DIFFERENTIABLE: frozenset[OpKey] = frozenset(
    {
        _key("And", 7),
        _key("ArgMax", 13),
        _key("ArgMin", 13),
        _key("Ceil", 13),
        _key("Constant", 13),
        _key("ConstantOfShape", 9),
        _key("Equal", 13),
        _key("Floor", 13),
        _key("Greater", 13),
        _key("GreaterOrEqual", 16),
        _key("IsInf", 10),
        _key("IsNaN", 13),
        _key("Less", 13),
        _key("LessOrEqual", 16),
        _key("NonZero", 13),
        _key("Not", 1),
        _key("Or", 7),
        _key("Range", 11),
        _key("Round", 11),
        _key("Shape", 15),
        _key("Sign", 13),
        _key("Size", 13),
        _key("Xor", 7),
    }
)
