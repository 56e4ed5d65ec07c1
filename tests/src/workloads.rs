//! What is timed, at the real size of facebook/musicgen-small with random weights.

use std::time::{Duration, Instant};

use burn::tensor::{Device, Int, Tensor, TensorData};
use tonoscope_core::{
    checkpoint::{Placement, Weights},
    hooks::Hooks,
    models::{
        musicgen::{Columns, DecoderState, MusicGen, MusicgenConfig},
        oobleck::{Oobleck, OobleckConfig},
    },
};

/// Sizes of facebook/musicgen-small.
const SMALL: &str = r#"{
    "model_type": "musicgen",
    "text_encoder": {"vocab_size": 32128, "d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12,
        "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128, "layer_norm_epsilon": 1e-6,
        "feed_forward_proj": "relu", "pad_token_id": 0},
    "audio_encoder": {"sampling_rate": 32000, "audio_channels": 1, "target_bandwidths": [2.2], "num_filters": 64,
        "num_residual_layers": 1, "upsampling_ratios": [8, 5, 4, 4], "hidden_size": 128, "kernel_size": 7,
        "last_kernel_size": 7, "residual_kernel_size": 3, "dilation_growth_rate": 2, "compress": 2,
        "num_lstm_layers": 2, "codebook_size": 2048, "codebook_dim": 128, "norm_type": "weight_norm",
        "pad_mode": "reflect", "use_causal_conv": false, "use_conv_shortcut": false, "normalize": false,
        "chunk_length_s": null},
    "decoder": {"vocab_size": 2048, "num_hidden_layers": 24, "ffn_dim": 4096, "num_attention_heads": 16,
        "hidden_size": 1024, "activation_function": "gelu", "scale_embedding": false, "num_codebooks": 4,
        "audio_channels": 1, "pad_token_id": 2048}
}"#;

/// Tokens of the prompts that are timed.
const PROMPT_TOKENS: usize = 12;

/// A musicgen-small with random weights.
///
/// # Panics
/// Never: the configuration above is complete.
pub fn musicgen_small(placement: Placement) -> MusicGen {
    let config: MusicgenConfig = serde_json::from_str(SMALL).expect("a configuration");
    MusicGen::load(&config, &Weights::random(0, placement)).expect("random weights fit every shape")
}

/// Wall times of `steps` guided decoder steps for `batch` prompts, after one that is not timed. Each ends with the
/// logits on the host.
///
/// # Panics
/// If the device fails.
pub fn decode_steps(model: &MusicGen, batch: usize, steps: usize) -> Vec<Duration> {
    let mut hooks = Hooks::none();
    let ids: Vec<Vec<u32>> =
        (0..batch).map(|row| (0..PROMPT_TOKENS as u32).map(|i| 3 + i + 7 * row as u32).collect()).collect();
    let text = model.encode_text(&mut hooks, &ids);
    let mut state = DecoderState::new(model.decoder(), &mut hooks, &text, true, steps + 1);
    let mut times = vec![];
    for step in 0..=steps {
        let column = vec![(step * 31 % 2048) as i64; 2 * batch * 4];
        let started = Instant::now();
        let column = Tensor::<3, Int>::from_data(TensorData::new(column, [2 * batch, 4, 1]), &model.device());
        let logits = model.decoder().forward(&mut hooks, &mut state, column, Columns::Last);
        let halves = logits.chunk(2, 0);
        let guided = halves[1].clone() + (halves[0].clone() - halves[1].clone()) * 3.0;
        std::hint::black_box(guided.into_data());
        times.push(started.elapsed());
    }
    times.remove(0);
    times
}

/// One prompt of 30 tokens through the text encoder.
///
/// # Panics
/// If the device fails.
pub fn t5_encode(model: &MusicGen) {
    let ids = Tensor::<2, Int>::from_data(TensorData::new((3..33i64).collect(), [1, 30]), &model.device());
    let states = model.text_encoder().forward(&mut Hooks::none(), ids.clone(), ids.ones_like());
    std::hint::black_box(states.into_data());
}

/// 200 frames of codes to 4 s of audio.
///
/// # Panics
/// If the device fails.
pub fn encodec_decode(model: &MusicGen) {
    let codes: Vec<Vec<u32>> = (0..4).map(|row| (0..200).map(|i| (i * 37 + row * 11) % 2048).collect()).collect();
    std::hint::black_box(model.decode_audio(&[codes]).into_data());
}

/// The autoencoder of stable-audio-open-1.0 with random weights, and the device it is on.
///
/// # Panics
/// Never: random weights fit every shape.
pub fn oobleck_open(placement: Placement) -> (Oobleck, Device) {
    let device = placement.device.clone();
    let weights = Weights::random(0, placement);
    (Oobleck::load(&OobleckConfig::stable_audio_open(), &weights).expect("random weights fit every shape"), device)
}

/// Latents to audio, `tile` of them at a time; 0: all at once.
///
/// # Panics
/// If the device fails.
pub fn oobleck_decode((model, device): &(Oobleck, Device), length: usize, tile: usize) {
    let latents: Vec<f32> = (0..64 * length).map(|index| (index as f32 * 0.7).sin()).collect();
    let latents = Tensor::<3>::from_data(TensorData::new(latents, [1, 64, length]), device);
    let audio = if tile == 0 { model.decode(latents) } else { model.decode_tiled(latents, tile) };
    std::hint::black_box(audio.into_data());
}
