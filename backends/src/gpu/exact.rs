//! Products of 32 bits by the arithmetic of 32 bits. CubeCL's choice of a kernel prefers tensor cores, which round what they
//! multiply to TF32 (10 bits) on NVIDIA GPUs since Ampere; the routine that needs no tensor core does not.

use burn_cubecl::{cubecl::prelude::*, kernel::matmul::init_matmul_output, tensor::CubeTensor};
use cubek::{
    matmul::{
        definition::{MatmulElems, MatmulGlobalElems},
        launch::launch_ref,
        multi_level,
        strategy::Strategy,
    },
    std::InputBinding,
};

/// `a b` of 32-bit tensors of one rank, whose axes before the last two agree or are 1 in `b`.
pub(super) fn matmul(a: CubeTensor, b: CubeTensor) -> CubeTensor {
    let out = init_matmul_output(&a, &b, a.dtype);
    let float = f32::elem_type_native();
    let mut types = MatmulElems::from_globals(&MatmulGlobalElems { lhs: float, rhs: float, out: float });
    let strategy =
        Strategy::MultiLevel(multi_level::Strategy::SimpleUnit(cubek::matmul::routine::BlueprintStrategy::default()));
    let [a, b] = [a, b].map(|x| InputBinding::new(x.binding(), float));
    launch_ref(&strategy, &out.client, a, b, out.clone().binding(), &mut types)
        .unwrap_or_else(|error| panic!("a product without tensor cores is always possible: {error:?}"));
    out
}
