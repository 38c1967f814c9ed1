//! A file of passwords that nobody may choose, of any size: searched on disk, never loaded.
//!
//! Either a password a line, in any order; or the hexadecimal SHA-1 of a password a line, sorted, as "Have I Been Pwned"
//! gives them out (`HASH` or `HASH:COUNT`). The first line tells which. In sorted hashes a look-up is a few dozen reads,
//! also in a file of many gigabytes; a plain list is read to its end, which is good for some hundred megabytes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use memchr::memmem::Finder;
use memchr::memrchr;
use sha1::{Digest, Sha1};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

/// How much of a plain list is in memory at once, in bytes.
const PIECE: usize = 256 * 1024;
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
        contains_line(file, &password)
    }
}

/// Reads of a sample, in bytes, and how many there are; a file that is not larger than all of them is read whole.
const SAMPLE: u64 = 16 * 1024;
const SAMPLES: u64 = 256;

/// Why look-ups in a list would miss.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The file cannot be read.
    #[error("{0}")]
    Unreadable(#[from] io::Error),
    /// Hashes in another order, by how often they were seen, say.
    #[error(
        "its SHA-1 sums are not sorted, so most would not be found: take the list that is ordered by hash, or sort it \
         (LC_ALL=C sort -f)"
    )]
    Unsorted,
}

/// Looks through the list, or through samples of a large one.
///
/// # Errors
/// [`ListError`].
pub fn check(path: &Path) -> Result<(), ListError> {
    let mut file = File::open(path)?;
    let mut start = [0; DIGITS + 1];
    let read = read_up_to(&mut file, &mut start)?;
    if hash_of_line(&start[..read]).is_none() {
        return Ok(());
    }
    let length = file.metadata()?.len();
    let step = (length / SAMPLES).max(SAMPLE);
    let mut reader = BufReader::new(file);
    let (mut line, mut last) = (Vec::new(), [0; DIGITS]);
    for from in (0..length).step_by(usize::try_from(step).unwrap_or(usize::MAX)) {
        reader.seek(SeekFrom::Start(from))?;
        let mut at = from;
        while at < from + SAMPLE {
            let read = next_line(&mut reader, &mut line)?;
            // The first line of a sample may lack its beginning.
            if let Some(hash) = hash_of_line(&line).filter(|_| at > from || from == 0) {
                if hash < last {
                    return Err(ListError::Unsorted);
                }
                last = hash;
            }
            at += read;
            if read == 0 {
                break;
            }
        }
    }
    Ok(())
}

/// Whether a line is the password. The file is searched as it lies there, piece by piece: a gigabyte takes some hundred
/// milliseconds.
fn contains_line(mut file: impl Read, password: &str) -> io::Result<bool> {
    // An empty line is no password, and what has a line break in it is on no line.
    if password.is_empty() || password.contains(['\r', '\n']) {
        return Ok(false);
    }
    let finder = Finder::new(password);
    let mut buffer = vec![0; PIECE];
    let mut filled = 0;
    // Within a line that is too long for the buffer, and for any password.
    let mut in_long_line = false;
    loop {
        let read = file.read(&mut buffer[filled..])?;
        filled += read;
        let end = match memrchr(b'\n', &buffer[..filled]) {
            _ if read == 0 => filled,
            Some(at) => at + 1,
            None if filled == buffer.len() => {
                (filled, in_long_line) = (0, true);
                continue;
            }
            None => continue,
        };
        if is_line_of(&buffer[..end], in_long_line, &finder) {
            return Ok(true);
        }
        if read == 0 {
            return Ok(false);
        }
        buffer.copy_within(end..filled, 0);
        filled -= end;
        in_long_line = false;
    }
}

/// Whether one of these whole lines, the first perhaps without its beginning, is what the finder looks for.
fn is_line_of(lines: &[u8], cut: bool, finder: &Finder<'_>) -> bool {
    finder.find_iter(lines).any(|at| {
        let begins = if at == 0 { !cut } else { lines[at - 1] == b'\n' };
        // A password may end in a space.
        let after = lines[at + finder.needle().len()..].iter().find(|byte| **byte != b'\r');
        begins && after.is_none_or(|byte| *byte == b'\n')
    })
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

    /// Gives a few bytes at a time.
    struct Bytes<'a>(&'a [u8]);
    impl Read for Bytes<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let n = self.0.len().min(buffer.len()).min(3);
            buffer[..n].copy_from_slice(&self.0[..n]);
            self.0 = &self.0[n..];
            Ok(n)
        }
    }

    #[test]
    fn lines_are_found_wherever_pieces_end() {
        // Lines of 7 bytes, so that every place of a line comes to lie on the border of a piece; and one that fills several.
        let line = |n: usize| format!("p{n:05}");
        let mut text: String = (0..60_000).map(|n| line(n) + "\n").collect();
        text.push_str(&"x".repeat(3 * PIECE));
        text.push_str("inside\nafter\r\r\nlast");
        let list = file(&text);
        for n in (37_440..37_460).chain([0, 1, 59_999]) {
            assert!(contains(list.path(), &line(n)).unwrap(), "{n}");
            assert!(!contains(list.path(), &line(n)[..5]).unwrap() && !contains(list.path(), &line(n)[1..]).unwrap());
        }
        assert!(contains(list.path(), "after").unwrap() && contains(list.path(), "last").unwrap());
        for other in ["inside", "xinside", "x", "p60000", "", "p00000\np00001", "after\r"] {
            assert!(!contains(list.path(), other).unwrap(), "{other:?}");
        }
        // The same, whatever a read gives.
        for (password, found) in [("b", true), ("ab", false), ("cd", true), ("c", false), ("e", true)] {
            assert_eq!(contains_line(Bytes(b"aab\nb\r\n\r\ncd\ne"), password).unwrap(), found, "{password}");
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
    fn hashes_in_another_order_are_noticed_in_files_of_every_size() {
        for size in [3, 5000, 200_000] {
            let mut hashes: Vec<String> = (0..size).map(|i| hash(&i.to_string()) + ":1\n").collect();
            assert!(matches!(check(file(&hashes.concat()).path()), Err(ListError::Unsorted)), "{size}");
            hashes.sort();
            check(file(&hashes.concat()).path()).unwrap();
            check(file(&hashes.concat().to_lowercase()).path()).unwrap();
            hashes.reverse();
            assert!(matches!(check(file(&hashes.concat()).path()), Err(ListError::Unsorted)), "{size} backwards");
        }
        check(file("zebra\napple\n").path()).unwrap();
        check(file("").path()).unwrap();
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
