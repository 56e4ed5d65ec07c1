//! Speed at musicgen-small's real size, random weights, on the CPU in f32.

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use tonoscope_backends::{DeviceName, Dtype, Request, WeightFormat};
use tonoscope_tests::workloads::{decode_steps, encodec_decode, musicgen_small, t5_encode};

fn musicgen(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("musicgen_small");
    group.sample_size(10).warm_up_time(Duration::from_secs(1));
    for weights in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Int8] {
        let request = Request { name: DeviceName::Cpu, dtype: Dtype::F32, weights, ..Request::default() };
        let model = musicgen_small(tonoscope_backends::open(&request).expect("the CPU is always there").placement);
        for batch in [1, 8] {
            let id = BenchmarkId::new("decode_step", format!("batch={batch}, weights={weights}"));
            group.bench_function(id, |bencher| {
                bencher.iter_custom(|steps| decode_steps(&model, batch, steps as usize).iter().sum());
            });
        }
        group.bench_function(BenchmarkId::new("t5_encode", format!("tokens=30, weights={weights}")), |bencher| {
            bencher.iter(|| t5_encode(&model));
        });
        group.bench_function(BenchmarkId::new("encodec_decode", format!("seconds=4, weights={weights}")), |bencher| {
            bencher.iter(|| encodec_decode(&model));
        });
    }
    group.finish();
}

criterion_group!(benches, musicgen);
criterion_main!(benches);
