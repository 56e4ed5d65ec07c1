use super::*;

/// A ZIP archive of stored entries, without the checksums that nobody here reads.
fn archive(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut directory) = (vec![], vec![]);
    for (name, content) in entries {
        let [name_len, len] = [name.len() as u32, content.len() as u32];
        let start = file.len() as u32;
        let common = |target: &mut Vec<u8>| {
            // Version, flags, method, time, date, checksum, sizes, lengths of name and extra fields.
            target.extend([0; 14]);
            target.extend(len.to_le_bytes());
            target.extend(len.to_le_bytes());
            target.extend(&name_len.to_le_bytes()[..2]);
            target.extend([0; 2]);
        };
        file.extend(b"PK\x03\x04");
        common(&mut file);
        file.extend(name.as_bytes());
        file.extend(*content);
        directory.extend(b"PK\x01\x02\0\0");
        common(&mut directory);
        // Length of the comment, disk, attributes.
        directory.extend([0; 10]);
        directory.extend(start.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let start = file.len() as u32;
    file.extend(&directory);
    file.extend(b"PK\x05\x06\0\0\0\0\0\0");
    file.extend(&(entries.len() as u16).to_le_bytes());
    file.extend((directory.len() as u32).to_le_bytes());
    file.extend(start.to_le_bytes());
    file.extend([0; 2]);
    file
}

/// A pickle of a tensor of 32-bit floats, with these sizes and strides as pickled tuples.
fn pickle(sizes: &[u8], strides: &[u8]) -> Vec<u8> {
    let head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nq\x00((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQK\x00";
    [&head[..], sizes, strides, b"\x89ccollections\nOrderedDict\n)RtR."].concat()
}

fn read(pickle: &[u8]) -> Result<Vec<f32>, TorchTensorError> {
    let data: Vec<u8> = (0..6u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    let file = archive(&[("x/data.pkl", pickle), ("x/byteorder", b"little"), ("x/data/0", &data)]);
    let tensor = read_torch_tensor(&file)?;
    Ok(tensor.bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

#[test]
fn strides_are_followed() {
    let straight = pickle(b"K\x02K\x03\x86", b"K\x03K\x01\x86");
    assert_eq!(read(&straight).unwrap(), [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    let turned = pickle(b"K\x03K\x02\x86", b"K\x01K\x03\x86");
    assert_eq!(read(&turned).unwrap(), [0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    assert!(read(&pickle(b"K\x07\x85", b"K\x01\x85")).unwrap_err().to_string().contains("beyond its bytes"));
    let enormous = pickle(b"J\xff\xff\xff\x7f\x85", b"K\x00\x85");
    assert!(read(&enormous).unwrap_err().to_string().contains("beyond its bytes"));
    let many = [&b"("[..], &b"K\x01".repeat(9), b"t"].concat();
    assert!(read(&pickle(&many, &many)).unwrap_err().to_string().contains("9 axes"));
}

#[test]
fn code_is_refused_by_name() {
    let evil = b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.";
    assert_eq!(read(evil).unwrap_err(), TorchTensorError::Code { name: "posix.system".to_owned() });
    let hidden = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\ncbuiltins\neval\n)R.";
    assert_eq!(read(hidden).unwrap_err(), TorchTensorError::Code { name: "builtins.eval".to_owned() });
}

#[test]
fn nothing_that_is_cut_or_changed_makes_it_panic() {
    let pickle = pickle(b"K\x02K\x03\x86", b"K\x03K\x01\x86");
    for len in 0..pickle.len() {
        assert!(read(&pickle[..len]).is_err(), "{len}");
    }
    for at in 0..pickle.len() {
        for byte in [0, b'.', b'(', b't', b'R', b'Q', b'q', b'h', 0x8a, 0xff] {
            let mut changed = pickle.clone();
            changed[at] = byte;
            let _ = read(&changed);
        }
    }
    let file = archive(&[("x/data.pkl", &pickle), ("x/data/0", &[0; 24])]);
    assert!(read_torch_tensor(&file).is_ok());
    for len in 0..file.len() {
        assert!(read_torch_tensor(&file[..len]).is_err(), "{len}");
    }
    for at in 0..file.len() {
        for byte in [0, 0x7f, 0xff] {
            let mut changed = file.clone();
            changed[at] = byte;
            let _ = read_torch_tensor(&changed);
        }
    }
}
