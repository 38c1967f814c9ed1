//! The memory that a thread hashes in. Argon2 goes through it in no order that a processor could foresee: in pages of 4 KiB it
//! looks up an address at almost each step, in large ones (2 MiB, where the system gives them) hardly ever.

use argon2::Block;

/// Memory that is kept from hash to hash.
#[derive(Default)]
pub(super) struct Memory(Vec<Block>);

impl Memory {
    /// A slice of `blocks` blocks of 1 KiB, with whatever is in them.
    pub fn blocks(&mut self, blocks: usize) -> &mut [Block] {
        if self.0.len() < blocks {
            let mut larger = Vec::with_capacity(blocks);
            in_large_pages(&mut larger);
            larger.resize(blocks, Block::default());
            self.0 = larger;
        }
        &mut self.0[..blocks]
    }

    /// Gives back all blocks but the first `most`.
    pub fn shrink(&mut self, most: usize) {
        if self.0.len() > most {
            self.0.truncate(most);
            self.0.shrink_to_fit();
        }
    }

    /// Whether there is nothing to give back.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Asks for large pages behind memory that nothing was written to yet. Without them it works as well, only slower.
#[expect(unsafe_code, reason = "the standard library does not offer madvise(2)")]
fn in_large_pages(memory: &mut Vec<Block>) {
    const PAGE: usize = 4096;
    let start = memory.as_mut_ptr().cast::<u8>();
    let skipped = start.align_offset(PAGE);
    let length = (memory.capacity() * size_of::<Block>()).saturating_sub(skipped) / PAGE * PAGE;
    // SAFETY: the range lies within the memory that the vector owns; the advice changes nothing of what is read there.
    let advised = length == 0 || unsafe { libc::madvise(start.add(skipped).cast(), length, libc::MADV_HUGEPAGE) } == 0;
    if !advised {
        tracing::debug!(error = %std::io::Error::last_os_error(), "no large pages for hashing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_gives_back() {
        let mut memory = Memory::default();
        assert!(memory.is_empty());
        for blocks in [8, 20_000, 30] {
            let given = memory.blocks(blocks);
            assert_eq!(given.len(), blocks);
            given.fill(Block::default());
        }
        memory.shrink(100);
        assert_eq!((memory.0.len(), memory.blocks(100).len(), memory.is_empty()), (100, 100, false));
    }

    #[test]
    fn memory_of_any_size_can_be_asked_for_in_large_pages() {
        for blocks in [0, 1, 3, 4, 5, 4096, 19_456] {
            let mut memory = Vec::with_capacity(blocks);
            in_large_pages(&mut memory);
            memory.resize(blocks, Block::default());
            assert_eq!(memory.len(), blocks);
        }
    }
}
