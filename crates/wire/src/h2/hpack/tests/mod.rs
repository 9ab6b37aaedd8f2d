//! tests: the examples of RFC 7541 Appendix C, what is refused, and what holds between the two ends.

mod examples;
mod pair;
mod refused;

use super::{Bad, Decoder, Field};

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

/// What stands in a block.
fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Pairs, Bad> {
    let (mut room, mut seen) = (Vec::new(), Vec::new());
    decoder.decode(block, &mut room, 8192, |field| {
        assert_eq!(field, Field::new(field.name, field.value));
        seen.push((field.name.to_vec(), field.value.to_vec()));
    })?;
    Ok(seen)
}

/// Bytes as they are printed in the RFC.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<char> = hex.chars().filter(|c| !c.is_whitespace()).collect();
    let pairs = digits.chunks(2).map(|pair| pair.iter().collect::<String>());
    pairs.map(|pair| u8::from_str_radix(&pair, 16).unwrap()).collect()
}
