//! Soundfonts, plain (SF2) and compressed (SF3).
//!
//! `rustysynth` plays SF2 and trusts its indices, so every index is checked here, and compressed samples are decoded into
//! an SF2 file in memory; where it panics all the same, that is an error. In SF3 a sample is marked by bit 4 of its type; its start and end are bytes, and its loop counts
//! from its start.

use std::{collections::BTreeSet, io::Cursor, ops::Range, sync::Arc};

use anyhow::{Context, Result, bail, ensure};
use rustysynth::SoundFont;

use super::vorbis;
use crate::guarded::guarded;

/// Bit of a sample's type: it is compressed.
const COMPRESSED: u16 = 0x10;
/// Generators that name an instrument and a sample.
const INSTRUMENT: u16 = 41;
const SAMPLE: u16 = 53;
/// Samples of all sounds together; half a gigabyte.
const MOST_SAMPLES: usize = 1 << 28;
/// The same for each byte of the file: Vorbis needs one for some ten samples, silence far less.
const MOST_SAMPLES_PER_BYTE: usize = 1 << 10;
/// Regions of a program: zones of its instruments, for each of its own zones. Large grand pianos have some thousands.
const MOST_REGIONS: usize = 1 << 16;
/// Silence in place of sounds that nobody asked for: room for any offset before, in and behind them.
const SILENCE: usize = 1 << 19;
/// Silence behind every sound, as the format has it.
const GAP: usize = 46;

const PRESET_LEN: usize = 38;
const INSTRUMENT_LEN: usize = 22;
const BAG_LEN: usize = 4;
const GENERATOR_LEN: usize = 4;
const SAMPLE_LEN: usize = 46;

/// A soundfont that is ready to be played.
pub(crate) struct Soundfont {
    pub(crate) font: Arc<SoundFont>,
    /// Its programs in bank 0 that were asked for.
    pub(crate) programs: Vec<u16>,
}

impl Soundfont {
    /// Reads a soundfont; only the sounds of the programs that `wanted` wants are decoded.
    ///
    /// # Errors
    /// What is no soundfont, or one that contradicts itself.
    pub(crate) fn read(bytes: &[u8], wanted: &dyn Fn(u16) -> bool) -> Result<Self> {
        let file = File::parse(bytes)?;
        let presets = file.presets()?;
        let chosen: Vec<&Preset> = presets.iter().filter(|preset| preset.bank == 0 && wanted(preset.program)).collect();
        let instruments = file.instruments()?;
        let mut samples = BTreeSet::new();
        for instrument in chosen.iter().flat_map(|preset| &preset.instruments).collect::<BTreeSet<_>>() {
            samples.extend(instruments[*instrument].samples.iter().copied());
        }
        for preset in &chosen {
            let regions: usize = preset.zones.iter().map(|instrument| instruments[*instrument].zones).sum();
            let program = preset.program;
            ensure!(
                regions <= MOST_REGIONS,
                "program {program} has {regions} regions, at most {MOST_REGIONS} are played"
            );
        }
        let programs: BTreeSet<u16> = chosen.iter().map(|preset| preset.program).collect();
        let plain = file.to_sf2(&samples)?;
        let font = guarded(|| SoundFont::new(&mut Cursor::new(plain)))?.map_err(|error| anyhow::anyhow!("{error}"))?;
        Ok(Self { font: Arc::new(font), programs: programs.into_iter().collect() })
    }
}

/// A program and the instruments that it is made of.
struct Preset {
    bank: u16,
    program: u16,
    instruments: BTreeSet<usize>,
    /// The instrument of every zone that has one.
    zones: Vec<usize>,
}

/// The zones of an instrument, and the samples that they play.
struct Instrument {
    zones: usize,
    samples: BTreeSet<usize>,
}

/// The parts of a soundfont.
struct File<'a> {
    samples: &'a [u8],
    /// Of all sounds together.
    most_samples: usize,
    /// Chunks of `pdta` in order.
    tables: Vec<([u8; 4], &'a [u8])>,
}

impl<'a> File<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self> {
        let is_font = bytes.len() >= 12 && &bytes[..4] == b"RIFF" && &bytes[8..12] == b"sfbk";
        ensure!(is_font, "not a soundfont: expected `RIFF` and `sfbk` at its beginning");
        let (mut info, mut samples, mut tables) = (None, None, None);
        for (id, body) in chunks(&bytes[12..])? {
            ensure!(&id == b"LIST" && body.len() >= 4, "a soundfont of lists was expected, found `{}`", named(id));
            let (kind, body) = body.split_at(4);
            match kind {
                b"INFO" => info = Some(body),
                b"sdta" => samples = chunks(body)?.into_iter().find(|(id, _)| id == b"smpl").map(|(_, body)| body),
                b"pdta" => tables = Some(chunks(body)?),
                _ => {}
            }
        }
        let lacks = |what: &str| format!("the soundfont has no `{what}`");
        info.with_context(|| lacks("INFO"))?;
        let most = bytes.len().saturating_mul(MOST_SAMPLES_PER_BYTE).saturating_add(SILENCE + MOST_SAMPLES_PER_BYTE);
        Ok(Self {
            most_samples: most.min(MOST_SAMPLES),
            samples: samples.with_context(|| lacks("smpl"))?,
            tables: tables.with_context(|| lacks("pdta"))?,
        })
    }

    /// The records of a table.
    fn table(&self, id: [u8; 4], len: usize) -> Result<Vec<&'a [u8]>> {
        let found = self.tables.iter().find(|(name, _)| *name == id);
        let (_, body) = found.with_context(|| format!("the soundfont has no `{}`", named(id)))?;
        let whole = !body.is_empty() && body.len().is_multiple_of(len);
        ensure!(whole, "`{}` has {} bytes, expected records of {len}", named(id), body.len());
        Ok(body.chunks_exact(len).collect())
    }

    /// For each record of `owners` (all but the last), which generators are in each of its zones.
    fn zones(
        &self,
        owners: &[&[u8]],
        first_bag: usize,
        bags: [u8; 4],
        generators: [u8; 4],
    ) -> Result<Vec<Vec<&'a [u8]>>> {
        let bags = self.table(bags, BAG_LEN)?;
        let all = self.table(generators, GENERATOR_LEN)?;
        let starts: Vec<usize> = bags.iter().map(|bag| usize::from(word(bag, 0))).collect();
        // The last record of every table only ends it.
        let of_bag = ranges(&starts, all.len() - 1)?;
        let starts: Vec<usize> = owners.iter().map(|owner| usize::from(word(owner, first_bag))).collect();
        let of_owner = ranges(&starts, of_bag.len())?;
        let generators = |bags: Range<usize>| of_bag[bags].iter().flat_map(|zone| all[zone.clone()].iter().copied());
        Ok(of_owner.into_iter().map(|bags| generators(bags).collect()).collect())
    }

    fn presets(&self) -> Result<Vec<Preset>> {
        let records = self.table(*b"phdr", PRESET_LEN)?;
        let zones = self.zones(&records, 24, *b"pbag", *b"pgen")?;
        let instruments = self.table(*b"inst", INSTRUMENT_LEN)?.len() - 1;
        let preset = |(record, generators): (&&[u8], Vec<&[u8]>)| {
            let zones = named_by(&generators, INSTRUMENT, instruments)?;
            let instruments = zones.iter().copied().collect();
            Ok(Preset { bank: word(record, 22), program: word(record, 20), instruments, zones })
        };
        records.iter().zip(zones).map(preset).collect()
    }

    /// All instruments.
    fn instruments(&self) -> Result<Vec<Instrument>> {
        let records = self.table(*b"inst", INSTRUMENT_LEN)?;
        let zones = self.zones(&records, 20, *b"ibag", *b"igen")?;
        let samples = self.table(*b"shdr", SAMPLE_LEN)?.len() - 1;
        let instrument = |generators: Vec<&[u8]>| {
            let zones = named_by(&generators, SAMPLE, samples)?;
            Ok(Instrument { zones: zones.len(), samples: zones.into_iter().collect() })
        };
        zones.into_iter().map(instrument).collect()
    }

    /// The same as a plain soundfont; samples that are not `wanted` are silent.
    fn to_sf2(&self, wanted: &BTreeSet<usize>) -> Result<Vec<u8>> {
        let records = self.table(*b"shdr", SAMPLE_LEN)?;
        let mut wave = vec![0i16; SILENCE + GAP];
        let mut headers = vec![];
        for (index, record) in records.iter().enumerate() {
            let mut header = record.to_vec();
            let last = index + 1 == records.len();
            let place = if last || !wanted.contains(&index) {
                [SILENCE / 4, 3 * SILENCE / 4, SILENCE / 4, 3 * SILENCE / 4]
            } else {
                self.take(record, &mut wave).with_context(|| format!("sample {index}"))?
            };
            for (at, value) in place.into_iter().enumerate() {
                header[20 + 4 * at..24 + 4 * at].copy_from_slice(&u32::try_from(value)?.to_le_bytes());
            }
            header[44..46].copy_from_slice(&(word(record, 44) & !COMPRESSED).to_le_bytes());
            headers.extend(header);
        }
        let mut wave_bytes = b"sdta".to_vec();
        push(&mut wave_bytes, *b"smpl", &wave.iter().flat_map(|sample| sample.to_le_bytes()).collect::<Vec<u8>>())?;
        let mut tables = b"pdta".to_vec();
        for (at, (id, body)) in self.tables.iter().enumerate() {
            // Of several of one name the first is the one that was checked.
            if self.tables[..at].iter().all(|(other, _)| other != id) {
                push(&mut tables, *id, if id == b"shdr" { &headers } else { body })?;
            }
        }
        let mut file = b"sfbk".to_vec();
        // Version 2.1. The other INFO chunks are not needed to play a soundfont.
        let mut info = b"INFO".to_vec();
        push(&mut info, *b"ifil", &[2, 0, 1, 0])?;
        push(&mut file, *b"LIST", &info)?;
        push(&mut file, *b"LIST", &wave_bytes)?;
        push(&mut file, *b"LIST", &tables)?;
        let mut whole = vec![];
        push(&mut whole, *b"RIFF", &file)?;
        Ok(whole)
    }

    /// Appends the sound of a record; returns where it begins and ends, and where its loop does.
    fn take(&self, record: &[u8], wave: &mut Vec<i16>) -> Result<[usize; 4]> {
        let [start, end, loop_start, loop_end] = [20, 24, 28, 32].map(|at| long(record, at) as usize);
        let begin = wave.len();
        let left = self.most_samples.saturating_sub(begin);
        let compressed = word(record, 44) & COMPRESSED != 0;
        let (sound, looped) = if compressed {
            let stream = self.samples.get(start..end).context("it lies outside the file")?;
            (vorbis::decode(stream, left)?, [loop_start, loop_end])
        } else {
            let bytes = self.samples.get(start * 2..end * 2).context("it lies outside the file")?;
            ensure!(bytes.len() / 2 <= left, "it has {} samples, expected at most {left}", bytes.len() / 2);
            let samples = bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]]));
            (samples.collect(), [loop_start.saturating_sub(start), loop_end.saturating_sub(start)])
        };
        let len = sound.len();
        if len == 0 || len > left {
            bail!("it has {len} samples, expected 1 to {left}");
        }
        wave.extend(sound);
        wave.extend([0; GAP]);
        // A loop beyond the sound would play its neighbour.
        Ok([begin, begin + len, begin + looped[0].min(len), begin + looped[1].min(len)])
    }
}

/// The chunks of a list, in order. One of odd length may or may not be followed by a byte that fills it up.
fn chunks(mut rest: &[u8]) -> Result<Vec<([u8; 4], &[u8])>> {
    let mut found = vec![];
    while rest.len() >= 8 {
        let id = [rest[0], rest[1], rest[2], rest[3]];
        let len = long(rest, 4) as usize;
        let body = rest[8..].get(..len).with_context(|| format!("`{}` is longer than the file", named(id)))?;
        rest = &rest[8 + len..];
        if len % 2 == 1 && rest.first() == Some(&0) {
            rest = &rest[1..];
        }
        found.push((id, body));
    }
    Ok(found)
}

/// Appends a chunk.
fn push(file: &mut Vec<u8>, id: [u8; 4], body: &[u8]) -> Result<()> {
    file.extend(id);
    file.extend(u32::try_from(body.len()).context("the soundfont is too long")?.to_le_bytes());
    file.extend(body);
    Ok(())
}

/// Ranges between consecutive `starts`, all within `len`.
fn ranges(starts: &[usize], len: usize) -> Result<Vec<Range<usize>>> {
    let range = |pair: &[usize]| {
        ensure!(
            pair[0] <= pair[1] && pair[1] <= len,
            "an index of the soundfont is {}, expected at most {len}",
            pair[1]
        );
        Ok(pair[0]..pair[1])
    };
    starts.windows(2).map(range).collect()
}

/// What the generators of kind `kind` name, in order, all below `count`.
fn named_by(generators: &[&[u8]], kind: u16, count: usize) -> Result<Vec<usize>> {
    let of_kind = generators.iter().filter(|generator| word(generator, 0) == kind);
    let named: Vec<usize> = of_kind.map(|generator| usize::from(word(generator, 2))).collect();
    ensure!(named.iter().all(|index| *index < count), "the soundfont names a part that it does not have");
    Ok(named)
}

fn word(record: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

fn long(record: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([record[at], record[at + 1], record[at + 2], record[at + 3]])
}

fn named(id: [u8; 4]) -> String {
    id.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::{super::BUILT_IN, *};

    #[test]
    fn the_built_in_soundfont_has_51_programs_and_all_their_samples() {
        let file = File::parse(BUILT_IN).unwrap();
        let presets = file.presets().unwrap();
        assert_eq!(presets.len(), 51);
        assert!(presets.iter().all(|preset| preset.bank == 0 && !preset.instruments.is_empty()));
        let instruments = file.instruments().unwrap();
        for instrument in presets.iter().flat_map(|preset| &preset.instruments) {
            assert!(!instruments[*instrument].samples.is_empty());
        }
    }

    #[test]
    fn a_sound_is_decoded_where_its_loop_fits() {
        let font = Soundfont::read(BUILT_IN, &|program| program == 73).unwrap();
        assert_eq!(font.programs, [73]);
        let samples = font.font.get_sample_headers();
        let decoded: Vec<_> = samples.iter().filter(|sample| sample.get_start() as usize > SILENCE).collect();
        assert!(!decoded.is_empty() && decoded.len() < samples.len() / 4, "{} of {}", decoded.len(), samples.len());
        for sample in decoded {
            let [start, end] = [sample.get_start(), sample.get_end()].map(|at| at as usize);
            let loops = [sample.get_start_loop(), sample.get_end_loop()].map(|at| at as usize);
            assert!(start <= loops[0] && loops[0] < loops[1] && loops[1] <= end, "{}", sample.get_name());
            let loudest = font.font.get_wave_data()[start..end].iter().map(|value| value.unsigned_abs()).max();
            assert!(loudest.unwrap() > 1000, "{}: {loudest:?}", sample.get_name());
        }
    }

    #[test]
    fn what_is_no_soundfont_is_refused() {
        let read = |bytes: &[u8]| Soundfont::read(bytes, &|_| true).map(|_| ()).unwrap_err().to_string();
        assert!(read(b"").contains("not a soundfont"));
        assert!(read(b"RIFF\0\0\0\0sfbk").contains("no `INFO`"));
        assert!(read(&BUILT_IN[..3_000_000]).contains("longer than the file"));
        // Every index in turn points beyond everything.
        let tables = BUILT_IN.windows(4).rposition(|four| four == b"pdta").unwrap();
        for id in [&b"phdr"[..], b"pbag", b"inst", b"ibag"] {
            let at = tables + BUILT_IN[tables..].windows(4).position(|four| four == id).unwrap();
            let field = match id {
                b"phdr" => 24,
                b"inst" => 20,
                _ => 0,
            };
            let mut bad = BUILT_IN.to_vec();
            bad[at + 8 + field..at + 10 + field].copy_from_slice(&u16::MAX.to_le_bytes());
            assert!(read(&bad).contains("an index of the soundfont"), "{}", String::from_utf8_lossy(id));
        }
    }

    /// A plain soundfont of one program: one sample of 200 values, with these generators in the zone of its instrument.
    pub(crate) fn small(generators: &[[u16; 2]], loops: [u32; 2], rate: u32) -> Vec<u8> {
        let words = |words: &[u16]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut zone = words(generators.as_flattened());
        zone.extend(words(&[SAMPLE, 0, 0, 0]));
        let preset = |program: u16, bag: u16| [vec![0; 20], words(&[program, 0, bag]), vec![0; 12]].concat();
        let instrument = |bag: u16| [vec![0; 20], words(&[bag])].concat();
        let bags = |last: u16| words(&[0, 0, last, 0]);
        let sample = |numbers: [u32; 5]| {
            let numbers: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            [vec![0; 20], numbers, vec![60, 0], words(&[0, 1])].concat()
        };
        let tables: [([u8; 4], Vec<u8>); 9] = [
            (*b"phdr", [preset(73, 0), preset(0, 1)].concat()),
            (*b"pbag", bags(1)),
            (*b"pmod", vec![0; 10]),
            (*b"pgen", words(&[INSTRUMENT, 0, 0, 0])),
            (*b"inst", [instrument(0), instrument(1)].concat()),
            (*b"ibag", bags(generators.len() as u16 + 1)),
            (*b"imod", vec![0; 10]),
            (*b"igen", zone),
            (*b"shdr", [sample([0, 200, loops[0], loops[1], rate]), sample([0; 5])].concat()),
        ];
        let wave: Vec<u8> = (0..400u16).flat_map(|at| ((at % 50) * 600).to_le_bytes()).collect();
        let list = |kind: &[u8; 4], parts: &[([u8; 4], Vec<u8>)]| {
            let mut body = kind.to_vec();
            for (id, part) in parts {
                push(&mut body, *id, part).unwrap();
            }
            body
        };
        let mut file = b"sfbk".to_vec();
        push(&mut file, *b"LIST", &list(b"INFO", &[(*b"ifil", vec![2, 0, 1, 0])])).unwrap();
        push(&mut file, *b"LIST", &list(b"sdta", &[(*b"smpl", wave)])).unwrap();
        push(&mut file, *b"LIST", &list(b"pdta", &tables)).unwrap();
        let mut whole = vec![];
        push(&mut whole, *b"RIFF", &file).unwrap();
        whole
    }

    #[test]
    fn a_small_soundfont_is_read() {
        let font = Soundfont::read(&small(&[], [10, 190], 16_000), &|_| true).unwrap();
        assert_eq!(font.programs, [73]);
    }

    #[test]
    fn no_damage_to_a_soundfont_panics() {
        let whole = small(&[[43, 0x7f00]], [10, 190], 16_000);
        for at in (0..whole.len()).step_by(3) {
            // The sound itself cannot be wrong.
            if (60..850).contains(&at) {
                continue;
            }
            for value in [0, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                let _ = Soundfont::read(&bytes, &|_| true);
            }
        }
        for cut in (0..whole.len()).step_by(41) {
            assert!(Soundfont::read(&whole[..cut], &|_| true).is_err(), "{cut}");
        }
    }
}
