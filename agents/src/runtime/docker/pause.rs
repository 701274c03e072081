//! The pause image: one program of some hundred bytes that does nothing and does it forever,
//! holding a pod's namespaces. It is made here and loaded into the engine, never pulled.
//!
//! As process 1 without a handler it ignores TERM, so it is ended by KILL. Children that it
//! inherits in a shared process namespace are reaped by the kernel, since it ignores SIGCHLD.

use kgit_protocol::ids::Digest;

/// ```text
///     lea  rsi, [rip + act]     ; 48 8d 35 1d 00 00 00
///     mov  edi, 17              ; SIGCHLD
///     xor  edx, edx
///     mov  r10d, 8              ; sizeof(sigset_t)
///     mov  eax, 13              ; rt_sigaction
///     syscall
/// again:
///     mov  eax, 34              ; pause
///     syscall
///     jmp  again
/// act: .quad 1, 0, 0, 0         ; SIG_IGN, no flags, no restorer, empty mask
/// ```
#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[
    0x48, 0x8d, 0x35, 0x1d, 0, 0, 0, // lea
    0xbf, 0x11, 0, 0, 0, // mov edi
    0x31, 0xd2, // xor edx
    0x41, 0xba, 0x08, 0, 0, 0, // mov r10d
    0xb8, 0x0d, 0, 0, 0, // mov eax
    0x0f, 0x05, // syscall
    0xb8, 0x22, 0, 0, 0, // again: mov eax
    0x0f, 0x05, // syscall
    0xeb, 0xf7, // jmp again
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
#[cfg(target_arch = "x86_64")]
const MACHINE: u8 = 62;
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: &str = "amd64";

/// ```text
///     mov  x0, #17              ; SIGCHLD
///     adr  x1, act
///     mov  x2, #0
///     mov  x3, #8               ; sizeof(sigset_t)
///     mov  x8, #134             ; rt_sigaction
///     svc  #0
/// again:
///     mov  x0, #0               ; ppoll(NULL, 0, NULL, NULL): there is no pause here
///     mov  x1, #0
///     mov  x2, #0
///     mov  x3, #0
///     mov  x8, #73
///     svc  #0
///     b    again
/// act: .quad 1, 0, 0, 0         ; SIG_IGN
/// ```
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[
    0x20, 0x02, 0x80, 0xd2, 0x81, 0x01, 0x00, 0x10, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x01, 0x80, 0xd2,
    0xc8, 0x10, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, // again:
    0x00, 0x00, 0x80, 0xd2, 0x01, 0x00, 0x80, 0xd2, 0x02, 0x00, 0x80, 0xd2, 0x03, 0x00, 0x80, 0xd2,
    0x28, 0x09, 0x80, 0xd2, 0x01, 0x00, 0x00, 0xd4, 0xfa, 0xff, 0xff, 0x17, // act:
    1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];
#[cfg(target_arch = "aarch64")]
const MACHINE: u8 = 183;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: &str = "arm64";

const BASE: u64 = 0x40_0000;
const HEADERS: u64 = 64 + 56;
const TAR_BLOCK: usize = 512;

/// The image's name: it changes with its content, so an old one is never mistaken for it.
pub(super) fn name() -> String {
    format!("kgit-pause:{}", Digest::of(&program()).short())
}

/// What `docker load` takes.
pub(super) fn archive(name: &str) -> Vec<u8> {
    let mut layer = Vec::new();
    entry(&mut layer, "pause", 0o755, &program());
    close(&mut layer);
    let config = serde_json::json!({
        "architecture": ARCHITECTURE,
        "os": "linux",
        "config": { "Entrypoint": ["/pause"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", Digest::of(&layer))] },
    })
    .to_string();
    let config_name = format!("{}.json", Digest::of(config.as_bytes()));
    let manifest = serde_json::json!([
        { "Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"] }
    ])
    .to_string();
    let mut archive = Vec::new();
    entry(&mut archive, "layer.tar", 0o644, &layer);
    entry(&mut archive, &config_name, 0o644, config.as_bytes());
    entry(&mut archive, "manifest.json", 0o644, manifest.as_bytes());
    close(&mut archive);
    archive
}

/// A static 64-bit ELF file: header, one loadable segment, code.
fn program() -> Vec<u8> {
    let size = HEADERS + CODE.len() as u64;
    let mut file = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    file.extend([2, 0, MACHINE, 0, 1, 0, 0, 0]); // executable, machine, version
    file.extend((BASE + HEADERS).to_le_bytes()); // entry
    file.extend(64u64.to_le_bytes()); // program headers
    file.extend(0u64.to_le_bytes()); // no section headers
    file.extend(0u32.to_le_bytes()); // flags
    file.extend([64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]); // sizes and counts
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]); // load, read and execute
    for word in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(word.to_le_bytes());
    }
    file.extend(CODE);
    file
}

/// Appends one file to a tar archive (ustar).
fn entry(archive: &mut Vec<u8>, path: &str, mode: u32, content: &[u8]) {
    let mut header = [0u8; TAR_BLOCK];
    let mut put =
        |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, path);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{:011o}", content.len()));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    archive.extend(header);
    archive.extend(content);
    archive.resize(archive.len().next_multiple_of(TAR_BLOCK), 0);
}

fn close(archive: &mut Vec<u8>) {
    archive.resize(archive.len() + 2 * TAR_BLOCK, 0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_a_whole_elf_file_and_its_name_is_stable() {
        let file = program();
        assert_eq!(file.len() as u64, HEADERS + CODE.len() as u64);
        assert_eq!(&file[..4], b"\x7fELF");
        assert_eq!(name(), name());
        assert_eq!(archive("a:1").len() % TAR_BLOCK, 0);
    }
}
