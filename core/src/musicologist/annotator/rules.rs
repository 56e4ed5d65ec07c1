//! Words that tell an aspect.

/// Aspect, and the words of which one is enough; `drum*` stands for all words that begin so.
const RULES: [(&str, &str); 25] = [
    ("bass", "bass basses bassline basslines sub-bass synth-bass 808 808s contrabass"),
    (
        "brass",
        "brass brassy trumpet trumpets trombone trombones tuba tubas horn horns cornet cornets flugelhorn* bugle bugles fanfare \
         fanfares",
    ),
    (
        "drum",
        "drum* percussion* beat beats kick kicks snare snares hi-hat hi-hats hihat hihats cymbal cymbals tom-tom toms timpani conga \
         congas bongo bongos djembe* tabla tablas cajon* cajón* bodhran* bodhrán* taiko taikos breakbeat* tambourine* maracas \
         shaker shakers timbales claves castanets",
    ),
    ("flute", "flute flutes piccolo* whistle whistles recorder recorders ocarina* shakuhachi* panpipe* bansuri quena"),
    ("guitar", "guitar guitars ukulele*"),
    ("keyboard", "piano pianos keyboard keyboards keys rhodes harpsichord* clavinet* wurlitzer*"),
    (
        "mallet",
        "marimba* vibraphone* xylophone* glockenspiel* box bells chimes celesta kalimba* handpan* metallophone* steelpan* balafon* \
         gamelan mallet mallets",
    ),
    ("organ", "organ organs hammond"),
    (
        "reed",
        "sax saxes saxophone* clarinet* oboe oboes bassoon* harmonica* accordion* bandoneon* woodwind* bagpipe* melodica* duduk*",
    ),
    (
        "string",
        "string strings violin* fiddle* viola violas cello cellos harp harps banjo* mandolin* sitar* orchestra* lute lutes koto \
         kotos erhu* bouzouki* zither* dulcimer*",
    ),
    ("synth_lead", "synth* leads arpeggiator* pad pads"),
    (
        "vocal",
        "vocal* voice voices choir choirs choral sing sings singing singer singers sung chant chants chanting rap raps rapping \
         rapped lyrics harmonies",
    ),
    (
        "bright sound",
        "bright brightly sparkl* shimmering glittering crisp cheerful upbeat happy fun joyful joyous playful festive sunny \
         celebratory carefree catchy uplifting lively triumphant jubilant whimsical danceable vibrant",
    ),
    (
        "warm sound",
        "warm warmth mellow smooth soft softly intimate cozy relaxed relaxing soulful gentle tender romantic nostalgic heartfelt \
         laid-back calm peaceful soothing sentimental chill lush sensual comforting",
    ),
    ("distortion", "distort* fuzz* overdrive* gritty grunge metal punk shredding hardcore industrial growl*"),
    ("fast_decay", "staccato pizzicato rapid fingerpick* fingerstyle punchy pluck* muted fast brisk picking"),
    (
        "long_release",
        "ambient pad pads sustained drone drones slow ethereal swell* sweeping legato lingering dreamy atmospheric meditat* spacious \
         floating haunting airy cinematic lush tranquil",
    ),
    ("multiphonic", "multiphonic*"),
    ("nonlinear_env", "evolving swell* glitch* riser risers build-up build-ups wah morphing wobbl* modulat*"),
    (
        "percussive",
        "drum* percussi* beat beats conga congas bongo bongos clap claps clapping handclaps timpani snare snares kick kicks djembe* \
         tabla tablas hi-hat hi-hats rhythm rhythms rhythmic pounding bodhran* bodhrán*",
    ),
    (
        "reverb",
        "reverb* echo* spacious ethereal dreamy cathedral ambient shoegaze atmospheric washed haunting lush airy dub surf cavernous",
    ),
    (
        "tempo-synced",
        "techno house trance arpeggi* synced pulsing pulsating sequence* edm four-on-the-floor hypnotic dance club electro dubstep \
         drum-and-bass synthwave",
    ),
    (
        "acoustic",
        "acoustic piano pianos string strings violin* fiddle* cello cellos harp harps banjo* mandolin* upright brass trumpet* horn \
         horns saxophone* clarinet* flute flutes orchestra* choir choirs harmonica* accordion* bongos congas ukulele* folk classical \
         bodhran* bodhrán* djembe* marimba*",
    ),
    (
        "electronic",
        "electronic* synth* techno house edm trance electro dubstep 808 808s trap chiptune pad pads lo-fi ambient drum-and-bass \
         vaporwave",
    ),
    (
        "synthetic",
        "synthetic synthesis* synthesiz* artificial robotic vocod* 8-bit chiptune futuristic glitch* digital arcade synthwave",
    ),
];

/// Whether one of the words of `aspect` is among `words`; an aspect without rules is never found.
pub(super) fn finds(aspect: &str, words: &[String]) -> bool {
    let Some((_, patterns)) = RULES.iter().find(|(name, _)| *name == aspect) else { return false };
    patterns.split(' ').any(|pattern| words.iter().any(|word| fits(pattern, word)))
}

/// Whether there is a rule for `aspect`.
#[cfg(not(target_arch = "wasm32"))]
pub(super) fn know(aspect: &str) -> bool {
    RULES.iter().any(|(name, _)| *name == aspect)
}

fn fits(pattern: &str, word: &str) -> bool {
    pattern.strip_suffix('*').map_or(pattern == word, |beginning| word.starts_with(beginning))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::musicologist::ASPECTS;

    #[test]
    fn every_aspect_has_its_rule_and_no_other_has() {
        let names: Vec<&str> = RULES.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, ASPECTS);
        assert!(RULES.iter().all(|(_, patterns)| patterns.split(' ').all(|pattern| pattern.len() > 1)));
        assert!(!finds("theremin", &["theremin".to_owned()]));
    }

    #[test]
    fn words_are_whole_words() {
        let finds = |aspect, word: &str| finds(aspect, &[word.to_owned()]);
        assert!(finds("drum", "drumming") && finds("bass", "bass") && finds("synth_lead", "synth-bass"));
        assert!(!finds("bass", "bassoon") && finds("reed", "bassoon") && !finds("string", "stringent"));
        assert!(!finds("brass", "horned") && !finds("organ", "organic"));
    }
}
