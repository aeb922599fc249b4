//! Recurrent networks.

mod gru;
mod lstm;
mod rnn;
