//! Content in UTF-16: narrowed to one byte for each unit, so that one engine serves both.

use std::ops::Range;

use zeroize::Zeroizing;

use crate::secrets::finding::Form;

/// Units looked at to tell UTF-16 without a byte order mark.
const SAMPLE: usize = 256;

/// The content with one byte for each unit of two, 0xff where it is no ASCII, and how it is written; `None` when it is not
/// UTF-16. A byte order mark counts, or that nine of ten units at the beginning are ASCII in one of the byte orders.
pub(super) fn narrow(content: &[u8]) -> Option<(Zeroizing<Vec<u8>>, Form)> {
    let little = match content {
        [0xff, 0xfe, ..] => true,
        [0xfe, 0xff, ..] => false,
        _ => {
            let sample = &content[..content.len().min(2 * SAMPLE)];
            let (pairs, rest) = sample.as_chunks::<2>();
            let ascii = |low: usize| pairs.iter().filter(|pair| pair[1 - low] == 0 && is_text(pair[low])).count();
            let enough = |low: usize| pairs.len() >= 8 && rest.is_empty() && ascii(low) * 10 >= pairs.len() * 9;
            match (enough(0), enough(1)) {
                (false, false) => return None,
                (little, _) => little,
            }
        }
    };
    let low = usize::from(!little);
    let narrow = |pair: &[u8; 2]| if pair[1 - low] == 0 && pair[low] < 0x80 { pair[low] } else { 0xff };
    let narrowed = content.as_chunks::<2>().0.iter().map(narrow).collect();
    Some((Zeroizing::new(narrowed), if little { Form::Utf16Le } else { Form::Utf16Be }))
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_graphic() || byte.is_ascii_whitespace()
}

/// The bytes of the original that a span of the narrowed content stands for.
pub(super) fn widen(span: &Range<usize>) -> Range<usize> {
    span.start * 2..span.end * 2
}
