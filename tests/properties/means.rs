//! Means in files: nothing that is damaged is used.

use std::collections::BTreeMap;

use burn::tensor::{Tensor, TensorData};
use serde_json::json;
use tonoscope_core::{hooks::Site, interventions::MeanActivations};
use tonoscope_tests::devices;

#[test]
fn means_come_back_and_a_turned_bit_anywhere_is_found() {
    let device = devices().remove(0).1.device;
    let point = Site::MlpOut.of(1);
    let values = TensorData::new(vec![0.5f32, -1.0, 2.0, 3.0], [2, 1, 2, 1, 1]);
    let means = MeanActivations { points: BTreeMap::from([(point, Tensor::from_data(values, &device))]) };
    let (key, shapes) = (json!({"frames": 3}), BTreeMap::from([(point, [2, 1, 2, 1, 1])]));
    let whole = pollster::block_on(means.to_bytes(&key)).unwrap();
    let read = |bytes: Vec<u8>| MeanActivations::from_bytes("m", bytes, &key, &shapes, &device);
    let back = read(whole.clone()).unwrap();
    assert_eq!(pollster::block_on(back.to_bytes(&key)).unwrap(), whole);
    for bit in 0..8 * whole.len() {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(read(bytes).is_err(), "bit {bit} of {}", whole.len());
    }
    let other = BTreeMap::from([(point, [2, 1, 1, 1, 2])]);
    assert!(MeanActivations::from_bytes("m", whole.clone(), &key, &other, &device).is_err());
    let more = BTreeMap::from([(point, [2, 1, 2, 1, 1]), (Site::MlpOut.of(2), [2, 1, 2, 1, 1])]);
    assert!(MeanActivations::from_bytes("m", whole, &key, &more, &device).is_err());
}
