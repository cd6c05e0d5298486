//! Corrects the checksums of a changed tar, so that the reader gets past them.

const BLOCK: usize = 512;
const SIZE: std::ops::Range<usize> = 124..136;
const SUM: std::ops::Range<usize> = 148..156;

/// The same tar, with a correct checksum in each header.
pub fn repaired(bytes: &[u8]) -> Vec<u8> {
    let mut tar = bytes.to_vec();
    tar.resize(bytes.len().next_multiple_of(BLOCK), 0);
    let mut at = 0;
    while at < tar.len() {
        let header = &mut tar[at..at + BLOCK];
        at += BLOCK;
        if header.iter().all(|byte| *byte == 0) {
            continue;
        }
        header[SUM].fill(b' ');
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[SUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = std::str::from_utf8(&header[SIZE]).unwrap_or_default();
        let size = usize::from_str_radix(size.trim_matches(['\0', ' ']), 8).unwrap_or(0);
        at = at
            .saturating_add(size)
            .min(tar.len())
            .next_multiple_of(BLOCK);
    }
    tar
}
