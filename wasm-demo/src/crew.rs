//! Workers that hold a share of the model's matrices, for wasm has no threads: `Workers` tells them, `help` is what they do.
//!
//! Each has memory of its own, and a line to here that both see: what to do, numbers, and values.

use tonoscope_backends::{Crew, Member, WeightFormat};
use tonoscope_core::checkpoint::MatrixValues;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::bridge::line;

/// What a member is told to do, and with what numbers.
mod command {
    /// Matrix, format, outputs, inputs; the weights follow in parts.
    pub(super) const KEEP: u32 = 0;
    /// How many weights come with it.
    pub(super) const PART: u32 = 1;
    /// Rows, how many numbers they have together, matrices; the rows come with it.
    pub(super) const MULTIPLY: u32 = 2;
    /// Matrix.
    pub(super) const FORGET: u32 = 3;
}

/// By the number that stands for it.
const FORMATS: [WeightFormat; 4] = [WeightFormat::F32, WeightFormat::F16, WeightFormat::Int8, WeightFormat::Int4];

/// The workers that the page has started.
#[derive(Debug)]
pub(crate) struct Workers {
    pub(crate) members: usize,
    /// Weights of a matrix from which on it is divided.
    pub(crate) least: usize,
}

impl Crew for Workers {
    fn members(&self) -> usize {
        self.members
    }

    fn capacity(&self) -> usize {
        line::capacity() as usize
    }

    fn least(&self) -> usize {
        self.least
    }

    fn keep(&self, member: usize, id: u32, format: WeightFormat, [out, width]: [usize; 2], weights: &[f32]) {
        let member = member as u32;
        let format = FORMATS.iter().position(|known| *known == format).unwrap_or_default();
        line::tell(member, command::KEEP, &[id, format as u32, out as u32, width as u32], &[]);
        for part in weights.chunks(self.capacity()) {
            line::tell(member, command::PART, &[part.len() as u32], part);
        }
    }

    fn multiply(&self, ids: &[u32], x: &[f32], rows: usize) {
        let numbers: Vec<_> = [rows as u32, x.len() as u32].into_iter().chain(ids.iter().copied()).collect();
        for member in 0..self.members as u32 {
            line::tell(member, command::MULTIPLY, &numbers, x);
        }
    }

    fn products(&self, member: usize, y: &mut [f32]) {
        line::answer(member as u32, y);
    }

    fn forget(&self, id: u32) {
        for member in 0..self.members as u32 {
            line::tell(member, command::FORGET, &[id], &[]);
        }
    }
}

/// Does what comes along the line of this worker, for ever.
///
/// # Panics
/// If that is nothing that [`Workers`] says.
#[wasm_bindgen]
pub fn help() {
    let mut member = Member::default();
    let (mut coming, mut weights) = ([0; 4], vec![]);
    let mut values = vec![];
    loop {
        let told = line::next();
        match told {
            command::KEEP => {
                line::numbers(&mut coming);
                weights = Vec::with_capacity(coming[2] as usize * coming[3] as usize);
            }
            command::PART => {
                let mut count = [0];
                line::numbers(&mut count);
                let have = weights.len();
                weights.resize(have + count[0] as usize, 0.0);
                line::take(&mut weights[have..]);
                let [id, format, out, width] = coming.map(|number| number as usize);
                if weights.len() == out * width {
                    let weights = MatrixValues::F32(std::mem::take(&mut weights).into());
                    member.keep(id as u32, FORMATS[format], [out, width], &weights);
                }
            }
            command::MULTIPLY => {
                let mut numbers = vec![0; line::count() as usize];
                line::numbers(&mut numbers);
                values.resize(numbers[1] as usize, 0.0);
                line::take(&mut values);
                line::give(&member.multiply(&numbers[2..], &values, numbers[0] as usize));
            }
            command::FORGET => {
                let mut id = [0];
                line::numbers(&mut id);
                member.forget(id[0]);
            }
            other => panic!("no command {other}"),
        }
        line::done();
    }
}
