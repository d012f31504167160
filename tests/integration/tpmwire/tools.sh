#!/bin/bash
# lib/tpmwire against a second implementation: tpm2-tools and a TPM emulator.
#   tools.sh TOOL [RECORD-FILE]
# TOOL is tpmwire-tool. With RECORD-FILE what was made on the way, and taken by the TPM, is written
# there as vectors for the unit tests (tests/data/tpmwire/README.md).
set -euo pipefail

tool=$1
record=${2:+$(realpath "$2")}
for need in swtpm swtpm_setup tpm2_import openssl; do
    command -v "$need" >/dev/null || { echo "skipped: no $need"; exit 77; }
done

d=$(mktemp -d)
pid=
finish() {
    [ -z "$pid" ] || kill "$pid" 2>/dev/null || true
    [ -z "$pid" ] || wait "$pid" 2>/dev/null || true
    rm -rf "$d"
}
trap finish EXIT
cd "$d"
mkdir state

# Its own way to make EKs is a third opinion on the high range of templates.
swtpm_setup --tpm2 --tpmstate "$d/state" --createek --rsa-keysize 3072 \
    --pcr-banks sha256,sha384 --logfile "$d/setup.log" >/dev/null ||
    { cat setup.log; exit 1; }
swtpm socket --tpm2 --tpmstate dir="$d/state" --server "type=unixio,path=$d/tpm" \
    --ctrl "type=unixio,path=$d/tpm.ctrl" --flags not-need-init,startup-clear >swtpm.log 2>&1 &
pid=$!
for _ in $(seq 100); do
    [ -S tpm ] && [ -S tpm.ctrl ] && break
    kill -0 "$pid" 2>/dev/null || { cat swtpm.log; exit 1; }
    sleep 0.05
done
export TPM2TOOLS_TCTI=swtpm:path=$d/tpm

checks=0
same() { # WHAT EXPECTED FOUND
    if [ "$2" != "$3" ]; then
        printf 'FAILED: %s\n  theirs: %s\n  ours:   %s\n' "$1" "$2" "$3"
        exit 1
    fi
    checks=$((checks + 1))
}
refused() { # WHAT WHY COMMAND...
    local what=$1 why=$2
    shift 2
    if "$@" >refused.log 2>&1; then
        echo "FAILED: $what was not refused"
        exit 1
    fi
    if ! grep -qi "$why" refused.log; then
        echo "FAILED: $what was refused, but not for \"$why\":"
        cat refused.log
        exit 1
    fi
    checks=$((checks + 1))
}
hex() { od -An -v -tx1 "$1" | tr -d ' \n'; }
unhex() { printf '%b' "$(printf '%s' "$1" | sed 's/../\\x&/g')"; }
put() { [ -z "$record" ] || printf '%s = %s\n' "$1" "$2" >>"$d/record"; } # NAME HEX
put_file() { put "$1" "$(hex "$2")"; }
# The emulator has no resource manager: three objects at a time, and nobody tidies up.
tidy() { tpm2_flushcontext -t; tpm2_flushcontext -l; tpm2_flushcontext -s; }
field() { sed -n "s/^ *$1: *//p" "$2" | head -1; }

primary() { # NAME HIERARCHY ALGORITHM ATTRIBUTES
    tpm2_createprimary -Q -C "$2" -G "$3" -a "$4" -c "$1.ctx"
    tpm2_readpublic -c "$1.ctx" -f tss -o "$1.public" >"$1.txt"
    tidy
}
check_primary() { # NAME HIERARCHY TEMPLATE
    same "Name of $1" "$(field name "$1.txt")" "$("$tool" name "$1.public")"
    same "qualified Name of $1" "$(field 'qualified name' "$1.txt")" \
        "$("$tool" qualified "$2" "$1.public")"
    same "template of $1" "$3" "$("$tool" template "$1.public")"
    put_file "$1.public" "$1.public"
    put "$1.name" "$(field name "$1.txt")"
    put "$1.qualified" "$(field 'qualified name' "$1.txt")"
}

# ── Keys: Names, qualified Names, templates ───────────────────────────────────────────────────

made='fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda'
primary ak e ecc256:ecdsa-sha256:null "$made|restricted|sign"
primary ak_rsa e rsa2048:rsassa-sha256:null "$made|restricted|sign"
primary ak_pss e rsa2048:rsapss-sha256:null "$made|restricted|sign"
primary wrap o ecc256:aes128cfb "$made|restricted|decrypt"
primary wrap_rsa o rsa2048:aes128cfb "$made|restricted|decrypt"
primary req o ecc256:ecdsa-sha256:null "$made|sign"
check_primary ak e 'AK (ECC P-256)'
check_primary ak_rsa e 'AK (RSA 2048)'
check_primary wrap o 'WRAP (ECC P-256)'
check_primary wrap_rsa o 'WRAP (RSA 2048)'
check_primary req o 'REQ (ECC P-256)'
put_file ak_pss.public ak_pss.public

# tpm2_createek makes L-1 and L-2, swtpm_setup made H-3 and H-6.
for kind in rsa ecc; do
    tpm2_createek -Q -G "$kind" -c "ek_$kind.ctx" -u ignored
    tpm2_readpublic -c "ek_$kind.ctx" -f tss -o "ek_$kind.public" >"ek_$kind.txt"
    tidy
done
for made_before in ek_p384=0x81010016 ek_rsa3072=0x8101001c; do
    kind=${made_before%=*}
    tpm2_readpublic -c "${made_before#*=}" -f tss -o "$kind.public" >"$kind.txt"
    printf '%s' "${made_before#*=}" >"$kind.handle"
done
check_primary ek_rsa e 'EK L-1 (RSA 2048)'
check_primary ek_ecc e 'EK L-2 (ECC P-256)'
check_primary ek_p384 e 'EK H-3 (ECC P-384)'
check_primary ek_rsa3072 e 'EK H-6 (RSA 3072)'

# A child: its qualified Name hangs on its parent's.
tpm2_create -Q -C wrap.ctx -G ecc256:ecdsa-sha256 -a "$made|sign" -u child.pub -r child.priv
tidy
tpm2_load -Q -C wrap.ctx -u child.pub -r child.priv -c child.ctx
tidy
tpm2_readpublic -c child.ctx -f tss -o child.public >child.txt
tidy
same 'qualified Name of a child' "$(field 'qualified name' child.txt)" \
    "$("$tool" qualified-child "$(field 'qualified name' wrap.txt)" child.public)"

# ── The counter ───────────────────────────────────────────────────────────────────────────────

index=0x01801000
head -c 32 /dev/urandom >nv.auth
tpm2_nvdefine -Q "$index" -C o -s 8 -a 'nt=counter|authread|authwrite|no_da' \
    -p "file:nv.auth"
nv_name() { tpm2_nvreadpublic "$index" >nv.txt && field name nv.txt; }
new=$(nv_name)
same 'Name of a new counter' "$new" "$("$tool" counter-name $((index)) new)"
tpm2_nvincrement -Q "$index" -C "$index" -P "file:nv.auth"
counter=$(nv_name)
same 'Name of the counter' "$counter" "$("$tool" counter-name $((index)) written)"
count=$(tpm2_nvread "$index" -C "$index" -P "file:nv.auth" -s 8 | od -An -v -tx1 | tr -d ' \n')
limit=$((16#$count))
put counter.new "$new"
put counter.name "$counter"

# ── PCRs and policies ─────────────────────────────────────────────────────────────────────────

for pcr in 0 1 2 3 4 5 6 7 8 9; do
    tpm2_pcrextend "$pcr:sha256=$(printf 'pcr %s' "$pcr" | sha256sum | cut -c1-64)"
done
seal=sha256:0,2,4,7
tpm2_pcrread -Q "$seal" -o seal.pcrs
printf '%016x' "$limit" >limit.hex
unhex "$(cat limit.hex)" >limit.bin

trial() { # WHAT OURS COMMAND...: the policy digest of a trial session
    local what=$1 ours=$2
    shift 2
    tpm2_startauthsession -S trial.ctx
    "$@" >trial.log
    same "$what" "$(hex trial.policy)" "$ours"
    tpm2_flushcontext trial.ctx
    tidy
}
policy_nv() { # SESSION OUTPUT
    tpm2_policynv -Q -S "$1" -i limit.bin -C "$index" -P "file:nv.auth" -L "$2" "$index" ule
}
trial PolicyPCR "$("$tool" policy-pcr "$seal" seal.pcrs)" \
    tpm2_policypcr -S trial.ctx -l "$seal" -L trial.policy
trial PolicyNV "$("$tool" policy-nv "$counter" "$limit")" policy_nv trial.ctx trial.policy
trial PolicyCommandCode "$("$tool" policy-unseal)" \
    tpm2_policycommandcode -S trial.ctx -L trial.policy TPM2_CC_Unseal
trial PolicySecret "$("$tool" policy-secret)" \
    tpm2_policysecret -S trial.ctx -c e -L trial.policy
node_key_policy() { # SESSION OUTPUT
    tpm2_policypcr -Q -S "$1" -l "$seal"
    policy_nv "$1" ignored
    tpm2_policycommandcode -Q -S "$1" -L "$2" TPM2_CC_Unseal
}
policy=$("$tool" node-key-policy "$seal" seal.pcrs "$counter" "$limit")
trial 'the node key policy' "$policy" node_key_policy trial.ctx trial.policy
unhex "$policy" >policy.bin
put_file seal.pcrs seal.pcrs
put seal.limit "$(cat limit.hex)"
put seal.policy "$policy"
put policy.pcr "$("$tool" policy-pcr "$seal" seal.pcrs)"
put policy.nv "$("$tool" policy-nv "$counter" "$limit")"

# ── Credentials ───────────────────────────────────────────────────────────────────────────────

head -c 32 /dev/urandom >credential.secret
printf '\0%.0s' {1..192} >zeros # never used as is: a scalar of 0 is refused
activate() { # EK RANDOM...
    local ek=$1 random
    shift
    for random; do
        "$tool" credential "$ek.public" "$(field name ak.txt)" credential.secret "$random" cred
        case $ek in
            ek_p384 | ek_rsa3072) # userWithAuth: the empty password is enough
                tpm2_activatecredential -Q -c ak.ctx -C "$(cat "$ek.handle")" -i cred -o opened
                ;;
            *)
                tpm2_startauthsession --policy-session -S ek.session
                tpm2_policysecret -Q -S ek.session -c e
                tpm2_activatecredential -Q -c ak.ctx -C "$ek.ctx" -i cred -o opened \
                    -P session:ek.session
                tpm2_flushcontext ek.session
                ;;
        esac
        tidy
        same "credential for $ek" "$(hex credential.secret)" "$(hex opened)"
    done
    put_file "credential_$ek.random" "$random"
    put_file "credential_$ek.file" cred
}
head -c 192 /dev/urandom >random.bin
put_file credential.secret credential.secret
activate ek_ecc - random.bin
activate ek_rsa - random.bin
activate ek_p384 - random.bin
activate ek_rsa3072 - random.bin
refused 'a scalar of zero' 'scalar is out of range' "$tool" credential ek_ecc.public "$(field name ak.txt)" \
    credential.secret zeros cred

# ── Import blobs ──────────────────────────────────────────────────────────────────────────────

unseal() { # → unsealed; as one list, because -e does not hold under "if"
    tpm2_startauthsession --policy-session -S unseal.session &&
        tpm2_policypcr -Q -S unseal.session -l "$seal" &&
        policy_nv unseal.session ignored &&
        tpm2_policycommandcode -Q -S unseal.session TPM2_CC_Unseal &&
        tpm2_unseal -Q -c node.ctx -p session:unseal.session -o unsealed &&
        tpm2_flushcontext unseal.session &&
        tidy
}
import() { # PARENT RANDOM: ours into the TPM, and out again under the policy
    "$tool" import "$1.public" node.secret policy.bin "$2" node.pub node.dup node.seed
    tpm2_import -Q -C "$1.ctx" -u node.pub -i node.dup -s node.seed -r node.priv
    tidy
    tpm2_load -Q -C "$1.ctx" -u node.pub -r node.priv -c node.ctx
    tidy
    unseal
    same "import under $1" "$(hex node.secret)" "$(hex unsealed)"
}
record_import() { # NAME RANDOM
    put_file "$1.random" "$2"
    put_file "$1.object_public" node.pub
    put_file "$1.duplicate" node.dup
    put_file "$1.seed" node.seed
}
head -c 32 /dev/urandom >node.secret
head -c 224 /dev/urandom >import.random
put_file node.secret node.secret
import wrap -
import wrap import.random
record_import import_ecc import.random
import wrap_rsa -
import wrap_rsa import.random
record_import import_rsa import.random
for kind in ephemeral shared; do
    "$tool" zero-random wrap.public "$kind" zero.random
    import wrap zero.random
    record_import "import_zero_$kind" zero.random
done

# A parent whose own x begins with a zero byte: made outside, so that we can look for one.
"$tool" zero-key zero.pem
tpm2_import -Q -C wrap.ctx -G ecc:aes128cfb -i zero.pem -u zero.pub -r zero.priv \
    -a 'userwithauth|noda|restricted|decrypt'
tidy
tpm2_load -Q -C wrap.ctx -u zero.pub -r zero.priv -c zero.ctx
tidy
tpm2_readpublic -c zero.ctx -f tss -o zero.public >zero.txt
tidy
import zero import.random
put_file zero.public zero.public
record_import import_zero_parent import.random

# The second implementation makes the same object, but for seedValue: what both must agree on is
# all before `unique`.
tpm2_import -Q -G keyedhash -C wrap.ctx -a 'noda|adminwithpolicy' -L policy.bin -i node.secret \
    -u theirs.pub -r theirs.priv
tidy
same "tpm2_import's public area" "$(hex theirs.pub | cut -c1-92)" "$(hex node.pub | cut -c1-92)"

# The policy holds: not after an increment, not after an extend.
import wrap -
tpm2_nvincrement -Q "$index" -C "$index" -P "file:nv.auth"
# 0x126 comes from PolicyNV, 0x99D from Unseal: the order of secrets in docs/protocol.md.
refused 'an unseal beyond the limit' 'policynv.*0x126' unseal
tidy
"$tool" node-key-policy "$seal" seal.pcrs "$counter" "$((limit + 1))" >policy.hex
unhex "$(cat policy.hex)" >policy.bin
printf '%016x' "$((limit + 1))" >limit.hex
unhex "$(cat limit.hex)" >limit.bin
import wrap -
tpm2_pcrextend 4:sha256="$(printf 'changed' | sha256sum | cut -c1-64)"
refused 'an unseal with another PCR 4' 'unseal.*0x99d' unseal
tidy

# ── Quotes and certifications ─────────────────────────────────────────────────────────────────

nonce=$(openssl rand -hex 32)
both=sha256:0,2,4,7+sha384:0,7
put quote.nonce "$nonce"
for ak in ak ak_rsa ak_pss; do
    scheme=()
    [ $ak != ak_pss ] || scheme=(--scheme rsapss)
    tpm2_quote -Q "${scheme[@]}" -c "$ak.ctx" -l "$both" -q "$nonce" -g sha256 -m quote -s signature \
        -o quote.pcrs -F values
    tidy
    tpm2_readpublic -Q -c "$ak.ctx" -f pem -o "$ak.pem"
    tidy
    tpm2_checkquote -Q -u "$ak.pem" -m quote -s signature -f quote.pcrs -l "$both" -g sha256 \
        -q "$nonce"
    same "quote by $ak" "$both $nonce" \
        "$("$tool" quote "$ak.public" quote signature "$both" quote.pcrs | tr '\n' ' ' | sed 's/ $//')"
    put_file "quote_$ak.attest" quote
    put_file "quote_$ak.signature" signature
    put_file "quote_$ak.pcrs" quote.pcrs
done
refused 'a quote by another key' 'does not fit' "$tool" quote ak.public quote signature "$both" quote.pcrs

tpm2_certify -Q -C ak.ctx -c wrap.ctx -g sha256 -o certify -s certify.signature
tidy
same 'certification of WRAP' "$(field name wrap.txt) $(field 'qualified name' wrap.txt)" \
    "$("$tool" certify ak.public certify certify.signature | tr '\n' ' ' | sed 's/ $//')"
put_file certify.attest certify
put_file certify.signature certify.signature

tpm2_nvcertify -Q -C ak.ctx -g sha256 --attestation nvcertify -o nvcertify.signature -c "$index" \
    -p "file:nv.auth" --size 8 "$index"
tidy
same 'certification of the counter' "$counter $(cat limit.hex)" \
    "$("$tool" nv-certify ak.public nvcertify nvcertify.signature | tr '\n' ' ' | sed 's/ $//')"
put_file nv_certify.attest nvcertify
put_file nv_certify.signature nvcertify.signature

[ -z "$record" ] || cp "$d/record" "$record"
echo "$checks comparisons with tpm2-tools, all the same"
