//! The control plane: keeps what runs equal to what was asked.

pub mod observe;
