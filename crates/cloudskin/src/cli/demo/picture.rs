//! Pictures that every viewer shows.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, ensure};

/// Writes a binary PPM or PGM as BMP.
pub(super) fn to_bmp(pnm: &[u8], path: &Path) -> anyhow::Result<()> {
    let (channels, width, height, pixels) = parse(pnm).context("this is no binary PPM or PGM")?;
    let row_bytes = width * channels;
    ensure!(
        pixels.len() >= row_bytes * height,
        "the picture is cut short"
    );
    let padded = (width * 3).next_multiple_of(4);
    let size = u32::try_from(54 + padded * height)?;
    let mut bmp = Vec::with_capacity(54 + padded * height);
    bmp.extend_from_slice(b"BM");
    // File size, reserved, offset of the pixels; header size, width, height; 1 plane of 24 bits; no compression, and defaults.
    for field in [
        size,
        0,
        54,
        40,
        u32::try_from(width)?,
        u32::try_from(height)?,
        24 << 16 | 1,
        0,
        0,
        0,
        0,
        0,
        0,
    ] {
        bmp.extend_from_slice(&field.to_le_bytes());
    }
    for row in pixels.chunks_exact(row_bytes).take(height).rev() {
        let start = bmp.len();
        for pixel in row.chunks_exact(channels) {
            bmp.extend(if channels == 3 {
                [pixel[2], pixel[1], pixel[0]]
            } else {
                [pixel[0]; 3]
            });
        }
        bmp.resize(start + padded, 0);
    }
    fs::write(path, bmp).with_context(|| format!("write {}", path.display()))
}

/// (channels, width, height, pixels)
fn parse(pnm: &[u8]) -> Option<(usize, usize, usize, &[u8])> {
    let channels = match pnm.get(..2)? {
        b"P6" => 3,
        b"P5" => 1,
        _ => return None,
    };
    let mut at = 2;
    let mut fields = [0; 3];
    for field in &mut fields {
        while pnm.get(at)?.is_ascii_whitespace() || pnm[at] == b'#' {
            at += if pnm[at] == b'#' {
                pnm[at..].iter().position(|byte| *byte == b'\n')?
            } else {
                1
            };
        }
        let digits = pnm[at..]
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        *field = std::str::from_utf8(&pnm[at..at + digits])
            .ok()?
            .parse::<usize>()
            .ok()?;
        at += digits;
    }
    let [width, height, 255] = fields else {
        return None;
    };
    width.checked_mul(height)?.checked_mul(4)?;
    Some((channels, width, height, pnm.get(at + 1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_with_a_comment_is_read() {
        assert_eq!(
            parse(b"P5\n# made by hand\n2 1\n255\nab"),
            Some((1, 2, 1, b"ab".as_slice()))
        );
        assert_eq!(parse(b"P4\n2 1\n255\nab"), None);
        assert_eq!(parse(b"P5 2"), None);
    }
}
