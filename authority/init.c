#include "init.h"

#include "config.h"
#include "identity.h"
#include "schema.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/mem.h"
#include "loop/address.h"
#include "pb/yaml.h"
#include "store/store.h"

#include "postern/v1/config.pb-c.h"

#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

constexpr size_t PATH_SIZE = 4096;
constexpr size_t PEM_MAX = 64 * 1024;
#define DEFAULT_TRUST_DOMAIN "postern.local"
#define DEFAULT_LISTEN "0.0.0.0:15550"
#define SERVER_NAME "postern-authority"

struct plan {
    const char *folder;   /* as it will be called */
    char work[PATH_SIZE]; /* as it is called until it is whole */
    const char *trust_domain;
    const char *listen;
    const char *server_names[CA_DNS_NAMES_MAX];
    size_t server_name_count;
};

static const char release_example[] =
    "# Which nodes may speak for which workloads: a node gets the secrets of those that it may vouch\n"
    "# for, and no others. Nothing here means that no node gets anything. After a change send the\n"
    "# authority SIGHUP: all files together come into force, or none.\n"
    "#\n"
    "# vouch:\n"
    "#   - nodes:\n"
    "#       - 0123456789abcdef0123456789abcdef   # as posternctl node list prints them; or \"*\"\n"
    "#     spiffe_ids:\n"
    "#       - spiffe://%s/ns/shop/sa/billing\n"
    "#       - spiffe://%s/ns/shop/sa/*           # all below it\n";

static const char attestation_readme[] =
    "Attestation policies: which state of a node is good. Each NAME.yaml here is one.\n"
    "\n"
    "Let a node attest without a token; it waits, PENDING. Look at it, then write down its state:\n"
    "\n"
    "    posternctl node list\n"
    "    posternctl attest record AGENT-ID --name NAME > NAME.yaml\n"
    "\n"
    "Put the file here, send the authority SIGHUP, and admit the node:\n"
    "\n"
    "    posternctl node approve AGENT-ID --policy NAME\n"
    "\n"
    "Later nodes of the same kind join by a token: posternctl node token --policy NAME\n"
    "\n"
    "A policy looks like this:\n"
    "\n"
    "    name: web-servers\n"
    "    pcrs:\n"
    "      - bank: sha256\n"
    "        index: 7                 # Secure Boot; see posternctl attest explain\n"
    "        allowed:\n"
    "          - 0123...              # 64 hex digits; any of these is good\n"
    "    seal: \"sha256:7\"             # PCRs whose values open the node's key\n"
    "    ek_trust: [vendor_cert]      # and ek_roots in authority.yaml; or pinned, or tofu\n"
    "    appraisal_lifetime: 15m\n";

/* ---- Options ---- */

static bool parse_options(int argc, char **argv, struct plan *plan, struct error *err)
{
    static const struct option known[] = {
        {"trust-domain", required_argument, nullptr, 't'},
        {"server-name", required_argument, nullptr, 's'},
        {"listen", required_argument, nullptr, 'l'},
        {},
    };
    *plan = (struct plan){.trust_domain = DEFAULT_TRUST_DOMAIN,
                          .listen = DEFAULT_LISTEN,
                          .server_names = {SERVER_NAME, "localhost"},
                          .server_name_count = 2};
    opterr = 0;
    optind = 0; /* glibc: start anew */
    for (int option; (option = getopt_long(argc, argv, ":", known, nullptr)) != -1;) {
        switch (option) {
        case 't':
            plan->trust_domain = optarg;
            break;
        case 'l':
            plan->listen = optarg;
            break;
        case 's':
            if (plan->server_name_count == CA_DNS_NAMES_MAX)
                return error_set(err, ERROR_INVALID, "at most %zu server names", CA_DNS_NAMES_MAX);
            plan->server_names[plan->server_name_count++] = optarg;
            break;
        default:
            return error_set(err, ERROR_INVALID, "init: %s %s", argv[optind - 1],
                             option == ':' ? "needs a value"
                                           : "is no option; usage: init " INIT_ARGUMENTS);
        }
    }
    if (argc - optind != 1 || argv[optind][0] == '\0')
        return error_set(err, ERROR_INVALID, "usage: init " INIT_ARGUMENTS);
    plan->folder = argv[optind];
    size_t len = strlen(plan->folder);
    while (len > 1 && plan->folder[len - 1] == '/')
        argv[optind][--len] = '\0';
    if (len + sizeof(".init-XXXXXX") > PATH_SIZE / 2)
        return error_set(err, ERROR_INVALID, "the path is too long");
    struct address address;
    if (!spiffe_trust_domain_check(slice_str(plan->trust_domain), err))
        return error_prefix(err, "--trust-domain");
    if (!listen_address_parse(plan->listen, &address, err))
        return error_prefix(err, "--listen");
    return address.port != 0 ||
           error_set(err, ERROR_INVALID, "--listen: expected a port above 0, found \"%s\"",
                     plan->listen);
}

/* ---- Files ---- */

static bool path_of(const struct plan *plan, const char *name, char ret[static PATH_SIZE],
                    struct error *err)
{
    int len = snprintf(ret, PATH_SIZE, "%s%s%s", plan->work, name[0] ? "/" : "", name);
    if (len < 0 || (size_t)len >= PATH_SIZE)
        return error_set(err, ERROR_INVALID, "the path of %s is too long", name);
    return true;
}

static bool make_folder(const struct plan *plan, const char *name, unsigned mode, struct error *err)
{
    char path[PATH_SIZE];
    return path_of(plan, name, path, err) && folder_make(path, mode, err);
}

static bool write_text(const struct plan *plan, const char *name, struct slice text,
                       struct error *err)
{
    char path[PATH_SIZE];
    return path_of(plan, name, path, err) && file_write_atomic(path, text, 0644, err);
}

static bool write_message(const struct plan *plan, const char *name,
                          const ProtobufCMessage *message, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, PB_YAML_MAX);
    return pb_to_yaml(message, &text, err) && write_text(plan, name, buf_slice(&text), err);
}

/* Where an operator on this machine finds the authority: a wildcard address is no destination. */
static void operator_address(const struct plan *plan, char ret[static ADDRESS_TEXT_SIZE])
{
    const char *port = strrchr(plan->listen, ':');
    bool any = strncmp(plan->listen, "0.0.0.0:", 8) == 0 || strncmp(plan->listen, "[::]:", 5) == 0;
    if (any && port)
        snprintf(ret, ADDRESS_TEXT_SIZE, "127.0.0.1%s", port);
    else
        snprintf(ret, ADDRESS_TEXT_SIZE, "%s", plan->listen);
}

/* ---- Parts ---- */

static bool make_configuration(const struct plan *plan, struct error *err)
{
    Postern__V1__AuthorityConfig config = POSTERN__V1__AUTHORITY_CONFIG__INIT;
    config.data_dir = (char[]){"data"};
    config.trust_domain = (char *)plan->trust_domain;
    config.listen = (char *)plan->listen;
    config.policies = (char[]){"policies"};
    return write_message(plan, "authority.yaml", &config.base, err);
}

static bool make_operator(const struct plan *plan, const struct identity *identity,
                          struct error *err)
{
    char key[PATH_SIZE], address[ADDRESS_TEXT_SIZE];
    CLEANUP(buf_done) struct buf anchor, certificate;
    buf_init(&anchor, PEM_MAX);
    buf_init(&certificate, PEM_MAX);
    identity_anchor(identity, &anchor);
    if (!buf_ok(&anchor, err) || !write_text(plan, "trust.pem", buf_slice(&anchor), err) ||
        !path_of(plan, "operator.key", key, err) ||
        !identity_issue_operator(identity, "admin", key, clock_wall_ms(), &certificate, err) ||
        !write_text(plan, "operator.pem", buf_slice(&certificate), err))
        return false;
    Postern__V1__AuthorityEndpoint endpoint = POSTERN__V1__AUTHORITY_ENDPOINT__INIT;
    Postern__V1__OperatorConfig config = POSTERN__V1__OPERATOR_CONFIG__INIT;
    operator_address(plan, address);
    endpoint.address = address;
    endpoint.trust_anchor = (char[]){"trust.pem"};
    config.authority = &endpoint;
    config.certificate = (char[]){"operator.pem"};
    config.key = (char[]){"operator.key"};
    return write_message(plan, "operator.yaml", &config.base, err);
}

static bool make_policies(const struct plan *plan, struct error *err)
{
    CLEANUP(buf_done) struct buf text;
    buf_init(&text, 8 * 1024);
    buf_put_format(&text, release_example, plan->trust_domain, plan->trust_domain);
    return buf_ok(&text, err) && make_folder(plan, "policies", 0755, err) &&
           make_folder(plan, "policies/attestation", 0755, err) &&
           make_folder(plan, "policies/release", 0755, err) &&
           write_text(plan, "policies/attestation/README", slice_str(attestation_readme), err) &&
           write_text(plan, "policies/release/example.yaml", buf_slice(&text), err);
}

static bool make_database(const struct plan *plan, struct error *err)
{
    char path[PATH_SIZE];
    struct store *store;
    if (!path_of(plan, "data/" AUTHORITY_DATABASE, path, err))
        return false;
    const struct store_options options = {
        .location = path,
        .migrations = authority_migrations,
        .migration_count = authority_migration_count,
    };
    if (!store_open(nullptr, &options, &store, err))
        return false;
    store_free(store);
    return true;
}

static bool make_all(const struct plan *plan, struct error *err)
{
    char data[PATH_SIZE];
    CLEANUP(identity_free_at) struct identity *identity = nullptr;
    CLEANUP(tls_context_unref_at) struct tls_context *tls = nullptr;
    return make_folder(plan, "data", 0700, err) && path_of(plan, "data", data, err) &&
           identity_create(data, plan->trust_domain, plan->server_names, plan->server_name_count,
                           err) &&
           identity_open(nullptr, data, plan->trust_domain, &identity, err) &&
           identity_server_tls(identity, &tls, err) && /* it could start with these names */
           make_operator(plan, identity, err) && make_configuration(plan, err) &&
           make_policies(plan, err) && make_database(plan, err);
}

/* ---- All or nothing ---- */

static void remove_tree(const char *path)
{
    DIR *folder = opendir(path);
    if (!folder) {
        unlink(path);
        return;
    }
    for (const struct dirent *entry; (entry = readdir(folder));) {
        char child[PATH_SIZE];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        int len = snprintf(child, sizeof(child), "%s/%s", path, entry->d_name);
        if (len < 0 || (size_t)len >= sizeof(child))
            continue;
        if (entry->d_type == DT_DIR)
            remove_tree(child);
        else
            unlink(child);
    }
    closedir(folder);
    rmdir(path);
}

/* An empty folder may be there (a mounted volume's is); anything else is somebody's work. rename
 * replaces an empty folder and refuses another. */
static bool check_target(const struct plan *plan, struct error *err)
{
    struct stat info;
    if (lstat(plan->folder, &info) != 0)
        return errno == ENOENT || error_set_errno(err, errno, "%s", plan->folder);
    if (!S_ISDIR(info.st_mode))
        return error_set(err, ERROR_CONFLICT, "%s exists and is no folder", plan->folder);
    DIR *folder = opendir(plan->folder);
    if (!folder)
        return error_set_errno(err, errno, "%s", plan->folder);
    size_t entries = 0;
    while (readdir(folder))
        entries++;
    closedir(folder);
    return entries <= 2 ||
           error_set(err, ERROR_CONFLICT, "%s exists and is not empty: nothing was changed",
                     plan->folder);
}

static void print_result(const struct plan *plan)
{
    const char *folder = plan->folder;
    printf("The authority of trust domain %s is in %s:\n\n"
           "  authority.yaml            its configuration\n"
           "  data/                     keys and database: readable by its user alone; back it up\n"
           "  policies/attestation/     which nodes are good (README says how to write one)\n"
           "  policies/release/         which nodes speak for which workloads\n"
           "  trust.pem                 the trust anchor: copy it to every node\n"
           "  operator.yaml, .pem, .key the first operator, for posternctl; valid for a year\n\n"
           "Next:\n\n"
           "  postern-authority --config %s/authority.yaml\n"
           "  posternctl --config %s/operator.yaml node list\n",
           plan->trust_domain, folder, folder, folder);
}

bool init_run(int argc, char **argv, struct error *err)
{
    struct plan plan;
    if (!parse_options(argc, argv, &plan, err) || !check_target(&plan, err))
        return false;
    snprintf(plan.work, sizeof(plan.work), "%s.init-XXXXXX", plan.folder);
    if (!mkdtemp(plan.work))
        return error_set_errno(err, errno, "cannot make a folder beside %s", plan.folder);
    if (!make_all(&plan, err)) {
        remove_tree(plan.work);
        return false;
    }
    if (chmod(plan.work, 0755) != 0 || rename(plan.work, plan.folder) != 0) {
        error_set_errno(err, errno, "move %s to %s", plan.work, plan.folder);
        remove_tree(plan.work);
        return false;
    }
    print_result(&plan);
    return true;
}
