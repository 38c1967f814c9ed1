//! A file of passwords that nobody may choose, of any size: searched on disk, never loaded.
//!
//! Either a password a line, in any order; or the hexadecimal SHA-1 of a password a line, sorted, as "Have I Been Pwned"
//! gives them out (`HASH` or `HASH:COUNT`). The first line tells which. In sorted hashes a look-up is a few dozen reads,
//! also in a file of many gigabytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use sha1::{Digest, Sha1};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// Hexadecimal digits of a SHA-1.
const DIGITS: usize = 40;
/// Longest line of hashes that is looked at: a hash, a colon, a count.
const LONGEST_LINE: u64 = 128;
/// What is left of a search by halves is read from here on in order.
const READ_THROUGH: u64 = 4096;

/// Whether the file has the password, in the form in which it is hashed (NFC).
///
/// # Errors
/// When the file cannot be read.
pub fn contains(path: &Path, password: &str) -> io::Result<bool> {
    let password = Zeroizing::new(password.nfc().collect::<String>());
    let mut file = File::open(path)?;
    let mut start = [0; DIGITS + 1];
    let read = read_up_to(&mut file, &mut start)?;
    file.rewind()?;
    if hash_of_line(&start[..read]).is_some() {
        contains_hash(file, &digest(&password))
    } else {
        contains_line(BufReader::with_capacity(64 * 1024, file), &password)
    }
}

fn contains_line(mut reader: impl BufRead, password: &str) -> io::Result<bool> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(false);
        }
        // A password may end in a space.
        let ending = line.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        if line[..line.len() - ending] == *password.as_bytes() {
            return Ok(true);
        }
    }
}

/// By halves: `low` is always the start of a line that is not after the one sought.
fn contains_hash(file: File, wanted: &[u8; DIGITS]) -> io::Result<bool> {
    let (mut low, mut high) = (0, file.metadata()?.len());
    let mut reader = BufReader::with_capacity(512, file);
    let mut line = Vec::new();
    while high.saturating_sub(low) > READ_THROUGH {
        let middle = low.midpoint(high);
        reader.seek(SeekFrom::Start(middle))?;
        // The rest of a line that began before.
        let skipped = next_line(&mut reader, &mut line)?;
        next_line(&mut reader, &mut line)?;
        match hash_of_line(&line) {
            Some(found) if found <= *wanted => low = middle + skipped,
            _ => high = middle,
        }
    }
    reader.seek(SeekFrom::Start(low))?;
    loop {
        if next_line(&mut reader, &mut line)? == 0 {
            return Ok(false);
        }
        match hash_of_line(&line) {
            Some(found) if found == *wanted => return Ok(true),
            Some(found) if found > *wanted => return Ok(false),
            _ => {}
        }
    }
}

fn next_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<u64> {
    line.clear();
    let read = reader.take(LONGEST_LINE).read_until(b'\n', line)?;
    Ok(read as u64)
}

/// The hash at the start of a line, in uppercase.
fn hash_of_line(line: &[u8]) -> Option<[u8; DIGITS]> {
    let (hash, rest) = line.split_first_chunk::<DIGITS>()?;
    let ends = rest.first().is_none_or(|byte| matches!(byte, b':' | b'\r' | b'\n'));
    (ends && hash.iter().all(u8::is_ascii_hexdigit)).then(|| hash.to_ascii_uppercase().try_into().ok())?
}

fn digest(password: &str) -> Zeroizing<[u8; DIGITS]> {
    let mut digits = Zeroizing::new([0; DIGITS]);
    for (i, byte) in Sha1::digest(password.as_bytes()).iter().enumerate() {
        digits[2 * i] = b"0123456789ABCDEF"[usize::from(byte >> 4)];
        digits[2 * i + 1] = b"0123456789ABCDEF"[usize::from(byte & 15)];
    }
    digits
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    let mut read = 0;
    while read < buffer.len() {
        match file.read(&mut buffer[read..])? {
            0 => break,
            n => read += n,
        }
    }
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        file
    }

    fn hash(password: &str) -> String {
        String::from_utf8(digest(password).to_vec()).unwrap()
    }

    #[test]
    fn whole_lines_count() {
        let file = file("password\r\nletmein \n\nzo\u{eb}\nlast");
        for (password, found) in [
            ("password", true),
            ("letmein ", true),
            ("letmein", false),
            ("last", true),
            ("passwor", false),
            ("PASSWORD", false),
            ("zoe\u{308}", true),
        ] {
            assert_eq!(contains(file.path(), password).unwrap(), found, "{password:?}");
        }
    }

    #[test]
    fn an_empty_file_has_nothing_and_a_missing_one_is_an_error() {
        assert!(!contains(file("").path(), "password").unwrap());
        assert!(contains(Path::new("/nonexistent"), "password").is_err());
    }

    #[test]
    fn a_password_is_hashed_as_everywhere() {
        assert_eq!(hash("password"), "5BAA61E4C9B93F3F0682250B6CF8331B7EE68FD8");
    }

    #[test]
    fn sorted_hashes_are_found_in_files_of_every_size_and_form() {
        let known = |i: usize| format!("password-{i}");
        for size in [1, 2, 50, 100, 5000] {
            let mut hashes: Vec<String> = (0..size).map(|i| hash(&known(i))).collect();
            hashes.sort();
            let count = |i: usize| if i.is_multiple_of(3) { 7 } else { 1_234_567 };
            let counted: Vec<String> = hashes.iter().enumerate().map(|(i, h)| format!("{h}:{}", count(i))).collect();
            for text in [hashes.join("\n"), hashes.join("\n").to_lowercase() + "\n", counted.join("\r\n") + "\r\n"] {
                let file = file(&text);
                for i in 0..size.min(500) {
                    assert!(contains(file.path(), &known(i)).unwrap(), "{i} of {size}");
                    assert!(!contains(file.path(), &format!("another-{i}")).unwrap(), "{i} of {size}");
                }
            }
        }
    }
}
