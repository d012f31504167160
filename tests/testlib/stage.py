"""A stage that several tests start from: one machine, admitted and affirmed, with a pod on it."""
from harness import TRUST_DOMAIN, Authority, Client, NodeAgent, Sidecar, Tpm, wait_for


class Stage:
    """tpm, authority, agent, sidecar, clients, agent_id; all of it running."""

    def node(self):
        return self.authority.node(self.agent_id)

    def wait_verdict(self, name, seconds=30):
        return wait_for(f"the node to be {name}",
                        lambda: self.node()["verdict"] == f"VERDICT_{name}" and self.node(), seconds)


def started_node(world):
    """A machine whose agent says hello and is pending; the authority has no attestation policy."""
    stage = Stage()
    stage.tpm = world.add(Tpm(world.folder / "machine-1")).make().power_on()
    stage.authority = world.add(Authority(world.folder / "authority")).init(stage.tpm.vendor)
    stage.authority.write_policy("release", "demo", (
        "vouch:\n  - nodes: [\"*\"]\n    spiffe_ids:\n"
        f"      - spiffe://{TRUST_DOMAIN}/demo/*\n"))
    stage.authority.start()
    for pod in world.pods:
        world.cgroups.make(pod)
    stage.agent = world.add(NodeAgent(world, "node-1", stage.tpm, stage.authority)).start()
    stage.clients = Client(world)
    return stage


def record_policy(stage):
    """Makes the pending node's state the policy "demo"."""
    pending = wait_for("the node to be pending", lambda: [
        n for n in stage.authority.nodes() if n["admission"] == "ADMISSION_PENDING"])[0]
    stage.agent_id = pending["agentId"]
    policy = stage.authority.ctl("attest", "record", stage.agent_id, "--name", "demo").stdout
    stage.authority.write_policy("attestation", "demo", policy)
    stage.authority.reload()


def join(stage):
    """Hands the agent a join token and waits until it is affirmed."""
    token = wait_for("a join token", lambda: stage.authority.ctl_json(
        "node", "token", "--policy", "demo"))["token"]
    stage.agent.token.write_text(token + "\n")
    return stage.wait_verdict("AFFIRMING", 60)


def admitted_node(world, pod):
    """All of the above, and a sidecar in the pod."""
    stage = started_node(world)
    record_policy(stage)
    join(stage)
    stage.sidecar = world.add(Sidecar(world, pod, stage.agent)).start()
    return stage
