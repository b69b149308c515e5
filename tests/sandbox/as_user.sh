# Runs a command as another user, who may pass to the folders named before "--" although they lie
# in folders of root's: `as_user.sh UID FOLDER... -- COMMAND...`, in a mount namespace of its own.
# The variable GROUP is a group that the user is also in.
set -eu
uid=$1; shift
aside=$(mktemp -d)
mount -t tmpfs -o mode=755 aside "$aside"
count=0
for word in "$@"; do
    [ "$word" = -- ] && break
    mkdir "$aside/$count"; mount --bind "$word" "$aside/$count"; count=$((count + 1))
done
index=0
while [ "$1" != -- ]; do
    above=
    for part in $(dirname "$1" | tr / ' '); do
        above=$above/$part
        [ -d "$above" ] || break
        case $(stat -c %A "$above") in
            d????????[xt]) ;;
            *) mount -t tmpfs -o mode=755 cover "$above" ;;
        esac
    done
    mkdir -p "$1"
    mount --bind "$aside/$index" "$1"
    index=$((index + 1)); shift
done
shift
umount -R "$aside"; rmdir "$aside"
groups=${GROUP:+--groups=$GROUP}
exec setpriv --reuid "$uid" --regid "$uid" "${groups:---clear-groups}" --bounding-set=-all "$@"
