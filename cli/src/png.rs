//! PNG files, written: the few lines that a figure needs over a deflate and a checksum library.
//!
//! The `png` crate turns on features of the compression libraries that Burn shares, and everything would be built anew.
//!
//! Reference: Portable Network Graphics (PNG) Specification, third edition, W3C, sections 5 to 11.

const SIGNATURE: &[u8; 8] = b"\x89PNG\r\n\x1a\n";
/// Each row is stored as its difference from the one above: what is of one colour becomes zeros.
const UP: u8 = 2;

/// What the bytes of an image mean.
pub(crate) enum Colours<'a> {
    /// Three bytes per pixel.
    Rgb,
    /// One byte per pixel, an index into colours of three bytes.
    Palette(&'a [u8]),
}

/// A PNG of `width` by `height` pixels of 8 bits, row by row; `per_metre`: how many pixels make a metre.
///
/// # Panics
/// If there are not as many pixels, or more than 256 colours: a bug of the caller.
pub(crate) fn encode(pixels: &[u8], width: u32, height: u32, colours: &Colours<'_>, per_metre: Option<u32>) -> Vec<u8> {
    let (kind, bytes_per_pixel) = match colours {
        Colours::Rgb => (2, 3),
        Colours::Palette(colours) => {
            assert!(colours.len() <= 3 * 256, "{} bytes of palette", colours.len());
            (3, 1)
        }
    };
    let row = width as usize * bytes_per_pixel;
    assert_eq!(pixels.len(), row * height as usize, "pixels of {width} by {height}");
    let mut file = SIGNATURE.to_vec();
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, kind, 0, 0, 0]].concat();
    chunk(&mut file, *b"IHDR", &header);
    if let Colours::Palette(colours) = colours {
        chunk(&mut file, *b"PLTE", colours);
    }
    if let Some(per_metre) = per_metre {
        chunk(&mut file, *b"pHYs", &[&per_metre.to_be_bytes()[..], &per_metre.to_be_bytes(), &[1]].concat());
    }
    let mut filtered = Vec::with_capacity(pixels.len() + height as usize);
    let mut above = vec![0; row];
    for line in pixels.chunks_exact(row.max(1)) {
        filtered.push(UP);
        filtered.extend(line.iter().zip(&above).map(|(byte, above)| byte.wrapping_sub(*above)));
        above.copy_from_slice(line);
    }
    chunk(&mut file, *b"IDAT", &fdeflate::compress_to_vec(&filtered));
    chunk(&mut file, *b"IEND", &[]);
    file
}

fn chunk(file: &mut Vec<u8>, name: [u8; 4], content: &[u8]) {
    file.extend((content.len() as u32).to_be_bytes());
    let start = file.len();
    file.extend(name);
    file.extend(content);
    let checksum = crc32fast::hash(&file[start..]);
    file.extend(checksum.to_be_bytes());
}

/// An image as [`encode`] has written it.
#[cfg(test)]
pub(crate) struct Decoded {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) per_metre: Option<u32>,
    pub(crate) pixels: Vec<u8>,
}

/// Reads what [`encode`] has written, checking every length and checksum.
#[cfg(test)]
pub(crate) fn decode(file: &[u8]) -> Decoded {
    let number = |bytes: &[u8]| u32::from_be_bytes(bytes[..4].try_into().unwrap());
    let mut rest = file.strip_prefix(SIGNATURE).expect("the signature");
    let mut image = Decoded { width: 0, height: 0, per_metre: None, pixels: vec![] };
    let mut bytes_per_pixel = 3;
    while !rest.is_empty() {
        let length = number(rest) as usize;
        let (name, content) = (&rest[4..8], &rest[8..8 + length]);
        assert_eq!(number(&rest[8 + length..]), crc32fast::hash(&rest[4..8 + length]), "checksum");
        match name {
            b"IHDR" => {
                (image.width, image.height) = (number(content) as usize, number(&content[4..]) as usize);
                bytes_per_pixel = if content[9] == 3 { 1 } else { 3 };
            }
            b"pHYs" => image.per_metre = Some(number(content)),
            b"IDAT" => {
                let raw = fdeflate::decompress_to_vec(content).expect("a zlib stream");
                let row = image.width * bytes_per_pixel;
                let mut above = vec![0u8; row];
                for line in raw.chunks_exact(row + 1) {
                    assert_eq!(line[0], UP);
                    for (above, byte) in above.iter_mut().zip(&line[1..]) {
                        *above = u8::wrapping_add(*above, *byte);
                    }
                    image.pixels.extend(&above);
                }
            }
            _ => {}
        }
        rest = &rest[12 + length..];
    }
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pixels_come_back() {
        let pixels: Vec<u8> = (0..5 * 4 * 3).map(|index| (index * 37 % 256) as u8).collect();
        let image = decode(&encode(&pixels, 5, 4, &Colours::Rgb, Some(11_811)));
        assert_eq!((image.width, image.height, image.per_metre, image.pixels), (5, 4, Some(11_811), pixels));
        let indices = [0, 1, 1, 0, 1, 0];
        let image = decode(&encode(&indices, 2, 3, &Colours::Palette(&[0, 0, 0, 255, 255, 255]), None));
        assert_eq!((image.width, image.height, image.pixels.as_slice()), (2, 3, &indices[..]));
    }
}
