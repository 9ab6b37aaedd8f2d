//! tests: the examples of RFC 7541 Appendix C, what is refused, and what holds between the two ends.

mod examples;
mod pair;
mod refused;

use super::{Bad, Decoder, Field};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What stands in a block.
fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Bad> {
    let (mut room, mut seen) = (Vec::new(), Vec::new());
    decoder.decode(block, &mut room, 8192, |Field { known, name, value, pseudo }| {
        assert_eq!(known, portunus_message::Known::find(name));
        assert_eq!(pseudo, super::Pseudo::find(name));
        seen.push((name.to_vec(), value.to_vec()));
    })?;
    Ok(seen)
}

/// Bytes as they are printed in the RFC.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs.map(|pair| u8::from_str_radix(&pair, 16).unwrap()).collect()
}
