//! Why a question was not answered.

/// A question without an answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LlmError {
    /// As many requests were sent as may be.
    #[error("the budget of {sent} requests is used up")]
    Budget {
        /// How many.
        sent: u64,
    },
    /// Ctrl-C.
    #[error("interrupted")]
    Interrupted,
    /// Repeated as often as it may be.
    #[error("no usable answer after {attempts} requests: {last}")]
    GaveUp {
        /// How often.
        attempts: u32,
        /// What was wrong with the last.
        last: String,
    },
    /// A request that the server will never answer.
    #[error("the server refuses the request with status {status}{}", detail(message))]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it says, possibly nothing.
        message: String,
    },
    /// A key is missing, wrong, or may not use the model.
    #[error("the server does not let us in, status {status}")]
    Key {
        /// HTTP status.
        status: u16,
        /// Whether a key was sent.
        with_key: bool,
    },
    /// The account is empty.
    #[error("the server says that the account has no credit left")]
    Credit,
    /// No such address, or no such model.
    #[error("`{url}` is not there, or knows no model `{model}`{}", detail(message))]
    NotFound {
        /// What was asked for.
        url: String,
        /// The model.
        model: String,
        /// What the server says, possibly nothing.
        message: String,
    },
    /// The server wants somebody else to answer.
    #[error("`{url}` hands over to another address, which is not followed: the key is for this one alone")]
    Redirect {
        /// What was asked for.
        url: String,
    },
    /// A request that cannot be made of the settings.
    #[error("no request can be made for `{url}`: {reason}")]
    Request {
        /// What was asked for.
        url: String,
        /// Why.
        reason: String,
    },
}

impl LlmError {
    /// Whether other questions would fare no better.
    pub(crate) fn concerns_all(&self) -> bool {
        !matches!(self, Self::GaveUp { .. } | Self::Refused { .. })
    }

    /// What to do about it.
    pub(crate) fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Budget { .. } => {
                "give the same command again with a larger `--max-requests` to go on where it stopped"
            }
            Self::Key { with_key: false, .. } => "put a key into `OPENAI_API_KEY`, or pass `--offline`",
            Self::Key { with_key: true, .. } => "check `OPENAI_API_KEY` and whether it may use this model",
            Self::NotFound { .. } => "check `--model` and `--base-url`, which usually ends in `/v1`",
            Self::Redirect { .. } => "pass the address that it hands over to as `--base-url`, if you trust it",
            _ => return None,
        })
    }
}

fn detail(message: &str) -> String {
    if message.is_empty() { String::new() } else { format!(": {message}") }
}
