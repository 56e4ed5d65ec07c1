//! One result of one prompt, a list of several.

/// What comes of a run: one piece of one prompt, a list of several.
pub trait Outcome: Sized {
    /// What is made of each prompt.
    type Piece;

    /// Of the pieces of all prompts, in their order.
    fn of(pieces: Vec<Self::Piece>) -> Self;
}

impl<P> Outcome for Vec<P> {
    type Piece = P;

    fn of(pieces: Vec<P>) -> Self {
        pieces
    }
}

/// The only piece of a run that has one prompt.
macro_rules! one_piece {
    ($piece:ty) => {
        impl crate::Outcome for $piece {
            type Piece = Self;

            fn of(mut pieces: Vec<Self>) -> Self {
                pieces.remove(0)
            }
        }
    };
}

pub(crate) use one_piece;
