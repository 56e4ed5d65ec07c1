//! Names, and what opens on the machine that runs the tests.

use proptest::prelude::*;

use super::*;

fn gpu(api: Api, index: usize) -> DeviceName {
    DeviceName::Gpu { api, index }
}

fn refused(request: Request) -> DeviceError {
    match open(&request) {
        Err(error) => error,
        Ok(opened) => panic!("opened {:?}", opened.info),
    }
}

/// A device that is compiled in and present, or a message that the test was skipped.
fn present(api: Api) -> Option<DeviceInfo> {
    let found = info::devices(api).into_iter().next();
    if found.is_none() {
        eprintln!("SKIPPED: no adapter for `{api}` on this machine (Debian: apt-get install mesa-vulkan-drivers)");
    }
    found
}

proptest! {
    #[test]
    fn names_print_and_parse(which in 0_usize..6, index in 0_usize..20) {
        let names = [DeviceName::Auto, DeviceName::Cpu].into_iter().chain(Api::ALL.map(|api| gpu(api, index)));
        let name = names.collect::<Vec<_>>()[which];
        prop_assert_eq!(name.to_string().parse::<DeviceName>().unwrap(), name);
    }
}

#[test]
fn names_of_nothing() {
    for name in ["", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu:1", "CUDA"] {
        let error = name.parse::<DeviceName>().unwrap_err().to_string();
        assert!(error.starts_with(&format!("`{name}` is not a device")), "{error}");
    }
    assert!("f64".parse::<Dtype>().is_err());
    assert!("int3".parse::<WeightFormat>().is_err());
}

#[test]
fn every_format_parses_as_it_prints() {
    for format in [WeightFormat::F32, WeightFormat::F16, WeightFormat::Int8, WeightFormat::Int4] {
        assert_eq!(format.to_string().parse::<WeightFormat>().unwrap(), format);
    }
}

#[test]
fn what_is_not_compiled_in_names_its_feature() {
    for api in Api::ALL.into_iter().filter(|api| !api.compiled()) {
        let error = refused(Request { name: gpu(api, 0), ..Request::default() });
        assert_eq!(error.to_string(), format!("`{api}` is not in this build"));
        let hint = error.hint().unwrap();
        assert!(hint.contains(api.feature()) || api == Api::Metal, "{hint}");
    }
}

#[test]
fn the_cpu_keeps_the_type_that_it_opened_with() {
    let opened = open(&Request { name: DeviceName::Cpu, ..Request::default() }).unwrap();
    assert!(opened.placement.packer.is_some());
    assert_eq!(opened.info.kind, Kind::Cpu);
    open(&Request { name: DeviceName::Cpu, weights: WeightFormat::Int8, ..Request::default() }).unwrap();
    let error = refused(Request { name: DeviceName::Cpu, dtype: Dtype::F16, ..Request::default() });
    assert_eq!(error.to_string(), "`cpu` already calculates in `f32` in this process, and cannot change to `f16`");
}

#[test]
fn auto_takes_no_gpu_in_software() {
    let info = find(DeviceName::Auto).unwrap();
    assert!(!info.software, "{info:?}");
    let device = |api, index, kind, software| DeviceInfo { name: gpu(api, index), kind, software, ..info::cpu() };
    let software = device(Api::Vulkan, 0, Kind::Software, true);
    let integrated = device(Api::Webgpu, 1, Kind::Integrated, false);
    let discrete = device(Api::Webgpu, 0, Kind::Discrete, false);
    let cuda = device(Api::Cuda, 0, Kind::Discrete, false);
    assert_eq!(best([software.clone()]), None);
    assert_eq!(best([software.clone(), integrated.clone()]), Some(integrated.clone()));
    assert_eq!(best([software.clone(), integrated.clone(), discrete.clone()]), Some(discrete.clone()));
    assert_eq!(best([cuda.clone(), software, integrated, discrete]), Some(cuda));
}

#[test]
fn the_list_begins_with_the_cpu_and_every_name_in_it_is_found() {
    let list = list();
    assert_eq!(list[0].name, DeviceName::Cpu);
    for device in &list {
        eprintln!("{device:?}");
        assert_eq!(find(device.name).unwrap(), *device);
    }
}

#[test]
fn webgpu_multiplies() {
    let Some(info) = present(Api::Webgpu) else { return };
    let request = Request { name: info.name, ..Request::default() };
    let opened = open(&request).unwrap();
    assert_eq!(opened.placement.packer.is_some(), !cfg!(feature = "fusion"), "matrices for kernels of our own");
    assert_eq!(opened.note.is_some(), info.software);
    // Again in the same process.
    let device = open(&request).unwrap().placement.device;
    let x = Tensor::<2>::from_floats([[1.0, 2.0], [3.0, 4.0]], &device);
    let y = x.clone().matmul(x).into_data();
    assert_eq!(y.as_slice::<f32>().unwrap(), [7.0, 10.0, 15.0, 22.0]);
}

#[test]
fn a_gpu_refuses_weight_formats_of_the_cpu() {
    let Some(info) = present(Api::Webgpu) else { return };
    let error = refused(Request { name: info.name, weights: WeightFormat::Int8, ..Request::default() });
    assert_eq!(error.to_string(), "weights in `int8` are for the device `cpu` only, and this is `webgpu`");
}

#[test]
fn one_gpu_too_many() {
    for api in Api::ALL.into_iter().filter(|api| api.compiled()) {
        let name = gpu(api, 99);
        let error = refused(Request { name, ..Request::default() });
        assert!(error.to_string().starts_with(&format!("there is no device `{api}:99` on this machine")), "{error}");
        assert!(error.hint().is_some());
    }
}
