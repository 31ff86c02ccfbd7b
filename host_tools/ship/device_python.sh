# Runs on the device, sent as `sh -c`: standard input, an archive, becomes ROOT/python/current, whole or not at all.
# Arguments: root, sha256 of the archive, processor, room that it takes (KiB).
set -eu
root=$1
case $root in "~/"*) root=$HOME/${root#"~/"} ;; esac
[ "$(uname -m)" = "$3" ] || { echo "it is for $3; the processor here is $(uname -m)" >&2; exit 1; }
mkdir -p "$root/incoming" "$root/python"
free=$(df -Pk "$root" | awk 'NR == 2 {print $4}')
[ "$free" -ge "$4" ] || { echo "$free KiB free; $4 KiB wanted" >&2; exit 1; }
aside=$root/incoming/python
rm -rf "$aside"
mkdir "$aside"
cat >"$aside/archive"
found=$(sha256sum "$aside/archive" | cut -d ' ' -f 1)
[ "$found" = "$2" ] || { echo "sha256 is $found on arrival; $2 wanted" >&2; exit 1; }
tar -xzf "$aside/archive" -C "$aside"
"$aside/python/bin/python3" -I -S -B -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    { echo "what was unpacked does not run here, or is older than 3.10" >&2; exit 1; }
# Programs here write no bytecode of their own: without this, every start would compile the standard library anew.
rare='/(test|tests|idlelib|lib2to3|tkinter|turtledemo|ensurepip|pydoc_data|distutils|site-packages)/'
"$aside/python/bin/python3" -I -S -m compileall -q -x "$rare" "$aside/python/lib" >&2 || true
rm -rf "$root/python/$2"
mv "$aside/python" "$root/python/$2"
sync
ln -s "$2" "$aside/current"
mv -T "$aside/current" "$root/python/current"
sync
rm -rf "$aside"
for old in "$root/python"/*; do
    case $old in "$root/python/current" | "$root/python/$2") ;; *) rm -rf "$old" ;; esac
done
