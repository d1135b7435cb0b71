"""The table of VJP rules, and the operators that stop gradients. What is in neither is unsupported.

Each row names the versions of its operator, by the opset that introduced them: those in force from opset 16, the
oldest that is differentiated, to 26, the newest that ONNX Runtime 1.31 runs.
"""

from collections.abc import Mapping
from types import MappingProxyType

from clearweight.exporter.autodiff.op_key import DEFAULT_DOMAIN, OpKey
from clearweight.exporter.autodiff.rules import (
    activation,
    attention,
    convolution,
    einsum,
    elementwise,
    indexing,
    linear,
    normalization,
    padding,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
    slicing,
    softmax,
    trigonometric,
)
from clearweight.exporter.autodiff.walker import EveryOutput, Rule

MAX_OPSET = 26

_SHAPES = (13, 21, 23, 24, 25)  # versions of the operators that only move elements, whose types were widened

_TABLE: tuple[tuple[str, tuple[int, ...], Rule], ...] = (
    # linear
    ("Gemm", (13,), linear.gemm_vjp),
    ("MatMul", (13,), linear.matmul_vjp),
    ("Einsum", (12,), einsum.einsum_vjp),
    # convolution
    ("Conv", (11, 22), convolution.conv_vjp),
    ("ConvTranspose", (11, 22), convolution.conv_transpose_vjp),
    ("Col2Im", (18,), convolution.col2im_vjp),
    # elementwise
    ("Add", (14,), elementwise.add_vjp),
    ("Sub", (14,), elementwise.sub_vjp),
    ("Mul", (14,), elementwise.mul_vjp),
    ("Div", (14,), elementwise.div_vjp),
    ("Sum", (13,), elementwise.sum_vjp),
    ("Mean", (13,), elementwise.mean_vjp),
    ("Max", (13,), elementwise.extreme_vjp),
    ("Min", (13,), elementwise.extreme_vjp),
    ("Where", (16,), elementwise.where_vjp),
    ("Pow", (15,), elementwise.pow_vjp),
    ("Sqrt", (13,), elementwise.sqrt_vjp),
    ("Reciprocal", (13,), elementwise.reciprocal_vjp),
    ("Exp", (13,), elementwise.exp_vjp),
    ("Log", (13,), elementwise.log_vjp),
    ("Abs", (13,), elementwise.abs_vjp),
    ("Neg", (13,), elementwise.neg_vjp),
    ("Mod", (13,), elementwise.mod_vjp),
    ("Erf", (13,), elementwise.erf_vjp),
    ("Identity", (16, 19, 21, 23, 24, 25), elementwise.identity_vjp),
    ("Dropout", (13, 22), elementwise.dropout_vjp),
    ("Cast", (13, 19, 21, 23, 24, 25), elementwise.cast_vjp),
    ("CastLike", (15, 19, 21, 23, 24, 25), elementwise.cast_vjp),
    # trigonometric
    ("Sin", (7, 22), trigonometric.sin_vjp),
    ("Cos", (7, 22), trigonometric.cos_vjp),
    ("Tan", (7, 22), trigonometric.tan_vjp),
    ("Asin", (7, 22), trigonometric.asin_vjp),
    ("Acos", (7, 22), trigonometric.acos_vjp),
    ("Atan", (7, 22), trigonometric.atan_vjp),
    ("Sinh", (9, 22), trigonometric.sinh_vjp),
    ("Cosh", (9, 22), trigonometric.cosh_vjp),
    ("Asinh", (9, 22), trigonometric.asinh_vjp),
    ("Acosh", (9, 22), trigonometric.acosh_vjp),
    ("Atanh", (9, 22), trigonometric.atanh_vjp),
    # attention
    ("Attention", (23, 24, 25), attention.attention_vjp),
    ("RotaryEmbedding", (23,), attention.rotary_embedding_vjp),
    # activation
    ("Relu", (14,), activation.relu_vjp),
    ("LeakyRelu", (16,), activation.leaky_relu_vjp),
    ("PRelu", (16,), activation.prelu_vjp),
    ("ThresholdedRelu", (10, 22), activation.thresholded_relu_vjp),
    ("Clip", (13,), activation.clip_vjp),
    ("Shrink", (9,), activation.shrink_vjp),
    ("Sigmoid", (13,), activation.sigmoid_vjp),
    ("Tanh", (13,), activation.tanh_vjp),
    ("HardSigmoid", (6, 22), activation.hard_sigmoid_vjp),
    ("HardSwish", (14, 22), activation.hard_swish_vjp),
    ("Elu", (6, 22), activation.elu_vjp),
    ("Selu", (6, 22), activation.selu_vjp),
    ("Celu", (12,), activation.celu_vjp),
    ("Softplus", (1, 22), activation.softplus_vjp),
    ("Softsign", (1, 22), activation.softsign_vjp),
    ("Mish", (18, 22), activation.mish_vjp),
    ("Swish", (24,), activation.swish_vjp),
    ("Gelu", (20,), activation.gelu_vjp),
    # normalization
    ("BatchNormalization", (15,), normalization.batch_normalization_vjp),
    ("LayerNormalization", (17,), normalization.layer_normalization_vjp),
    ("RMSNormalization", (23,), normalization.rms_normalization_vjp),
    ("InstanceNormalization", (6, 22), normalization.instance_normalization_vjp),
    ("GroupNormalization", (18, 21), normalization.group_normalization_vjp),
    ("LRN", (13,), normalization.local_response_normalization_vjp),
    ("Softmax", (13,), softmax.softmax_vjp),
    ("LogSoftmax", (13,), softmax.log_softmax_vjp),
    # pooling
    ("MaxPool", (12, 22), pooling.max_pool_vjp),
    ("MaxUnpool", (11, 22), pooling.max_unpool_vjp),
    ("AveragePool", (11, 19, 22), pooling.average_pool_vjp),
    ("GlobalAveragePool", (1, 22), reduction.global_average_pool_vjp),
    ("GlobalMaxPool", (1, 22), reduction.global_max_pool_vjp),
    # reduction
    ("ReduceSum", (13,), reduction.reduce_sum_vjp),
    ("ReduceMean", (13, 18), reduction.reduce_mean_vjp),
    ("ReduceMax", (13, 18, 20), reduction.reduce_extreme_vjp),
    ("ReduceMin", (13, 18, 20), reduction.reduce_extreme_vjp),
    ("ReduceProd", (13, 18), reduction.reduce_prod_vjp),
    ("ReduceL1", (13, 18), reduction.reduce_l1_vjp),
    ("ReduceL2", (13, 18), reduction.reduce_l2_vjp),
    ("ReduceSumSquare", (13, 18), reduction.reduce_sum_square_vjp),
    ("ReduceLogSum", (13, 18), reduction.reduce_log_sum_vjp),
    ("ReduceLogSumExp", (13, 18), reduction.reduce_log_sum_exp_vjp),
    # shape
    ("Flatten", _SHAPES, shape.reshape_vjp),
    ("Reshape", (14, 19, 21, 23, 24, 25), shape.reshape_vjp),
    ("Squeeze", _SHAPES, shape.reshape_vjp),
    ("Unsqueeze", _SHAPES, shape.reshape_vjp),
    ("Transpose", _SHAPES, shape.transpose_vjp),
    ("Expand", (13,), shape.expand_vjp),
    ("Tile", (13,), shape.tile_vjp),
    ("DepthToSpace", (13,), shape.depth_to_space_vjp),
    ("SpaceToDepth", (13,), shape.space_to_depth_vjp),
    # slicing, padding, resizing, indexing
    ("Concat", (13,), slicing.concat_vjp),
    ("Split", (13, 18), EveryOutput(slicing.split_vjp)),
    ("Slice", (13,), slicing.slice_vjp),
    ("Pad", (13, 18, 19, 21, 23, 24, 25), padding.pad_vjp),
    ("Resize", (13, 18, 19), resize.resize_vjp),
    ("Gather", (13,), indexing.gather_vjp),
    ("GatherElements", (13,), indexing.gather_elements_vjp),
    ("GatherND", (13,), indexing.gather_nd_vjp),
    ("ScatterElements", (16, 18), indexing.scatter_elements_vjp),
    ("ScatterND", (16, 18), indexing.scatter_nd_vjp),
    ("TopK", (11, 24), indexing.top_k_vjp),
    ("ReverseSequence", (10,), indexing.reverse_sequence_vjp),
    ("Trilu", (14,), indexing.trilu_vjp),
    ("CumSum", (14,), indexing.cum_sum_vjp),
    # quantization
    ("QuantizeLinear", (13, 19, 21, 23, 24, 25), quantization.quantize_linear_vjp),
    ("DequantizeLinear", (13, 19, 21, 23, 24, 25), quantization.dequantize_linear_vjp),
)

RULES: Mapping[OpKey, Rule] = MappingProxyType(
    {
        OpKey(DEFAULT_DOMAIN, op_type, version): rule
        for op_type, versions, rule in _TABLE
        for version in versions
    }
)

# Whole numbers, truth values, steps and what is drawn at random: the derivative is zero or does not exist.
_STOPPING: tuple[tuple[str, tuple[int, ...]], ...] = (
    ("And", (7,)),
    ("ArgMax", (13,)),
    ("ArgMin", (13,)),
    ("BitwiseAnd", (18,)),
    ("BitwiseNot", (18,)),
    ("BitwiseOr", (18,)),
    ("BitwiseXor", (18,)),
    ("Ceil", (13,)),
    ("Constant", (13, 19, 21, 23, 24, 25)),
    ("ConstantOfShape", (9, 20, 21, 23, 24, 25)),
    ("Equal", (13, 19)),
    ("EyeLike", (9, 22)),
    ("Floor", (13,)),
    ("Greater", (13,)),
    ("GreaterOrEqual", (16,)),
    ("Hardmax", (13,)),
    ("IsInf", (10, 20)),
    ("IsNaN", (13, 20)),
    ("Less", (13,)),
    ("LessOrEqual", (16,)),
    ("NonZero", (13,)),
    ("Not", (1,)),
    ("Or", (7,)),
    ("RandomNormal", (1, 22)),
    ("RandomNormalLike", (1, 22)),
    ("RandomUniform", (1, 22)),
    ("RandomUniformLike", (1, 22)),
    ("Range", (11,)),
    ("Round", (11, 22)),
    ("Shape", (15, 19, 21, 23, 24, 25)),
    ("Sign", (13,)),
    ("Size", (13, 19, 21, 23, 24, 25)),
    ("Xor", (7,)),
)

NON_DIFFERENTIABLE: frozenset[OpKey] = frozenset(
    OpKey(DEFAULT_DOMAIN, op_type, version) for op_type, versions in _STOPPING for version in versions
)
