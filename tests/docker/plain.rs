//! What `kubectl` prints, without what differs from run to run: ages, times, addresses, hashes and
//! the name of the node. Tables are aligned anew.

/// Rows of tables that depend on where images come from, on how full the machine's disk is, and on
/// whether its own rules may be touched.
const OF_SURROUNDINGS: [&str; 4] = ["DiskPressure", "Pulled", "PulledLocally", "ServicesReady"];
/// The same of columns, with what is shown instead.
const COLUMNS_OF_SURROUNDINGS: [(&str, &str); 4] =
    [("OS-IMAGE", "…"), ("KERNEL-VERSION", "…"), ("LOCATION", "…"), ("COMMIT", "1234567")];
/// How long pods stay on a lost node: a setting, not an age.
const TOLERATION: &str = "300s";

pub fn plain(text: &str, node: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().collect();
    let mut shown: Vec<String> = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(starts) = columns(&lines, at) else {
            let line = sentence(lines[at], node);
            // A log's lines are equal, and each run has another number of them.
            if shown.last() != Some(&line) || line.trim().is_empty() {
                shown.push(line);
            }
            at += 1;
            continue;
        };
        let inside = |line: &&&str| !line.is_empty() && indent(line) >= starts[0];
        let rows: Vec<&str> = lines[at..].iter().take_while(inside).copied().collect();
        at += rows.len();
        shown.extend(aligned(&rows, &starts, node));
    }
    shown
}

/// Where the columns of a table begin, if line `at` heads one: in capitals, or underlined.
fn columns(lines: &[&str], at: usize) -> Option<Vec<usize>> {
    let line = lines[at];
    let in_capitals = line.contains("  ")
        && line.chars().all(|c| c.is_ascii_uppercase() || matches!(c, ' ' | '-' | '(' | ')'));
    let under = lines.get(at + 1).copied().unwrap_or_default();
    let underlined = under.contains('-') && under.chars().all(|c| matches!(c, ' ' | '-'));
    (in_capitals || underlined).then(|| starts(line))
}

/// Where words begin that have two spaces or nothing in front.
fn starts(line: &str) -> Vec<usize> {
    let bytes = line.as_bytes();
    let blank = |index: usize| bytes.get(index) == Some(&b' ');
    let begins = |&index: &usize| {
        !blank(index) && (index == 0 || (blank(index - 1) && (index == 1 || blank(index - 2))))
    };
    (0..bytes.len()).filter(begins).collect()
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

fn aligned(rows: &[&str], starts: &[usize], node: &str) -> Vec<String> {
    let cells = |row: &&str| -> Vec<String> {
        let ends = starts.iter().skip(1).copied().chain([row.len()]);
        let cell = |(start, end): (&usize, usize)| row.get(*start..end.min(row.len()));
        let cells = starts.iter().zip(ends).map(cell);
        cells.map(|cell| sentence(cell.unwrap_or_default().trim(), node)).collect()
    };
    let mut rows: Vec<Vec<String>> = rows.iter().map(cells).collect();
    for (title, instead) in COLUMNS_OF_SURROUNDINGS {
        if let Some(column) = rows[0].iter().position(|cell| cell == title) {
            rows[1..].iter_mut().for_each(|row| row[column] = instead.to_owned());
        }
    }
    rows.retain(|row| !row.iter().any(|cell| OF_SURROUNDINGS.contains(&cell.as_str())));
    let underline = |cell: &mut String, width: usize| {
        if cell.starts_with("--") {
            *cell = "-".repeat(width);
        }
    };
    for column in 0..starts.len() {
        let heading = rows[0][column].len();
        rows.iter_mut().for_each(|row| underline(&mut row[column], heading));
        let lengths = rows.iter().map(|row| row[column].chars().count());
        let width = lengths.max().unwrap_or_default();
        for row in &mut rows {
            let cell = row[column].clone();
            row[column] = format!("{cell:width$}");
        }
    }
    let lead = " ".repeat(starts[0]);
    rows.iter().map(|row| format!("{lead}{}", row.join("   ").trim_end())).collect()
}

/// What depends on the machine, on who uses it and on the moment, in the description of an object.
const OF_MACHINES: [&str; 14] = [
    "Architecture",
    "Author",
    "Boot ID",
    "Container Runtime Version",
    "Id",
    "Kernel Version",
    "Location",
    "OS Image",
    "PodCIDR",
    "PodCIDRs",
    "Resource Version",
    "cpu",
    "ephemeral-storage",
    "memory",
];

fn sentence(line: &str, node: &str) -> String {
    if let Some((key, value)) = line.split_once(':')
        && OF_MACHINES.contains(&key.trim())
        // An autoscaler's target.
        && !value.ends_with('%')
    {
        let gap = value.len() - value.trim_start().len();
        return format!("{key}:{}…", &value[..gap]);
    }
    let line = match (line.split_once("kgit.dev/commit:"), line.split_once("kgit.dev/commit=")) {
        (Some((before, _)), _) => format!("{before}kgit.dev/commit: 1234567"),
        (_, Some((before, rest))) => {
            let after = rest.find(',').map_or("", |end| &rest[end..]);
            format!("{before}kgit.dev/commit=1234567{after}")
        }
        _ => dated(line),
    };
    let words: Vec<String> = line.split(' ').map(|word| self::word(word, node)).collect();
    words.join(" ")
}

/// `Sat, 21 Nov 2026 03:13:57 +0000` becomes one moment.
fn dated(line: &str) -> String {
    let Some(zone) = line.find(" +0000") else { return line.to_owned() };
    let Some(begin) = line[..zone].rfind(", ").and_then(|comma| comma.checked_sub(3)) else {
        return line.to_owned();
    };
    format!("{}Thu, 01 Jan 2026 00:00:00{}", &line[..begin], &line[zone..])
}

fn word(word: &str, node: &str) -> String {
    for mark in ["docker://", "sha256:", "docker-pullable://"] {
        if word.starts_with(mark) {
            return format!("{mark}0123456789ab");
        }
    }
    if is_moment(word) {
        return "2026-01-01T00:00:00Z".to_owned();
    }
    let bare = word.trim_matches(|c| matches!(c, '(' | ')' | ','));
    if is_age(bare) {
        return word.replace(bare, "1m");
    }
    let parts: Vec<String> = word
        .split_inclusive(['/', ',', '='])
        .map(|part| {
            let (text, end) = match part.char_indices().last() {
                Some((at, '/' | ',' | '=')) => part.split_at(at),
                _ => (part, ""),
            };
            format!("{}{end}", piece(text, node))
        })
        .collect();
    parts.concat()
}

/// `2026-11-21T11:04:33Z`, with or without parts of a second.
fn is_moment(word: &str) -> bool {
    let fits = |c: char| c.is_ascii_digit() || matches!(c, '-' | ':' | '.' | 'T' | 'Z');
    word.len() >= 20 && word.ends_with('Z') && word.contains('T') && word.chars().all(fits)
}

/// The name of an event behind the name of what it is about.
fn is_moment_and_hash(text: &str) -> bool {
    text.len() == 20 && text.chars().all(|c| c.is_ascii_hexdigit())
}

fn piece(text: &str, node: &str) -> String {
    let is_uid = text.len() == 36 && text.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    if is_uid {
        return "01234567-89ab-cdef-0123-456789abcdef".to_owned();
    }
    if let Some(of_claim) = text.strip_prefix("pvc-") {
        return format!("pvc-{}", piece(of_claim, node));
    }
    if text == node || text == format!("[{node}]") {
        return text.replace(node, "node");
    }
    if let Some((about, end)) = text.rsplit_once('.')
        && is_moment_and_hash(end)
    {
        return format!("{}.0123456789abcdef0123", unhashed(about));
    }
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    match host.parse::<std::net::Ipv4Addr>() {
        Ok(address) if address.is_loopback() => "127.0.0.1:6443".to_owned(),
        Ok(_) if port.is_empty() => "10.0.0.1".to_owned(),
        Ok(_) => format!("10.0.0.1:{port}"),
        Err(_) => unhashed(text),
    }
}

/// The ends of pods' and revisions' names: five and ten characters, not of a word.
fn unhashed(text: &str) -> String {
    let mut parts: Vec<String> = text.split('-').map(str::to_owned).collect();
    let is_hash = |part: &str, length: usize| {
        let fits = |c: char| c.is_ascii_digit() || "bcdfghjklmnpqrstvwxz".contains(c);
        let is_number = length == 10 && part.chars().all(|c| c.is_ascii_digit());
        part.len() == length && part.chars().all(fits) && !is_number
    };
    if parts.len() > 1 {
        for part in &mut parts[1..] {
            if is_hash(part, 10) {
                *part = "5d59d67564".to_owned();
            } else if is_hash(part, 5) {
                *part = "xxxxx".to_owned();
            }
        }
    }
    let joined = parts.join("-");
    // No word is that long without a vowel, digits or not.
    if is_hash(text, 10) { "5d59d67564".to_owned() } else { joined }
}

fn is_age(word: &str) -> bool {
    let units = word.chars().filter(|c| matches!(c, 's' | 'm' | 'h' | 'd')).count();
    let digits = word.chars().filter(char::is_ascii_digit).count();
    word != TOLERATION
        && word.starts_with(|c: char| c.is_ascii_digit())
        && word.ends_with(['s', 'm', 'h', 'd'])
        && units + digits == word.len()
}

#[test]
fn what_differs_from_run_to_run_is_made_equal() {
    let shown = plain(
        "NAME                     READY   AGE    IP\nnginx-7twn82xztr-z2vfs   1/1     2m43s  10.33.248.7\n\
         \nSelector:  app=nginx,pod-template-hash=qdxbzqkhzl\nLease:  at Sat, 21 Nov 2026 09:36:04 +0000 on vm/192.0.2.2",
        "vm",
    );
    let wanted = [
        "NAME                     READY   AGE   IP",
        "nginx-5d59d67564-xxxxx   1/1     1m    10.0.0.1",
        "",
        "Selector:  app=nginx,pod-template-hash=5d59d67564",
        "Lease:  at Thu, 01 Jan 2026 00:00:00 +0000 on node/10.0.0.1",
    ];
    assert_eq!(shown, wanted);
}
