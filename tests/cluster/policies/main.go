// Decides which connections the NetworkPolicies of a cluster allow on one node.
//
// The kernel hands over the first packet of each connection (NFQUEUE, see parts/policies.py), the engine of
// kube-network-policies decides, and the packet goes on or is lost. The engine's own program is not used: it
// asks the kernel by an expression of nftables that not every kernel has (CONFIG_NFT_QUEUE). The target of
// iptables does the same, and kube-proxy needs iptables anyway.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/api"
	"sigs.k8s.io/kube-network-policies/pkg/network"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
	"sigs.k8s.io/kube-network-policies/pkg/podinfo"
)

// Headers are read only, of network and transport.
const packetBytes = 128

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	node := flag.String("node", "", "the name of this node")
	queue := flag.Uint("queue", 0, "the number of the kernel's queue of packets")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *kubeconfig, *node, uint16(*queue)); err != nil {
		fmt.Fprintln(os.Stderr, "network-policies:", err)
		os.Exit(1)
	}
}

// Opens the queue only when pods, namespaces and policies are known. Until then the kernel drops what it would
// queue, so the queue's reader in /proc/net/netfilter/nfnetlink_queue says that policies are enforced.
func run(ctx context.Context, kubeconfig, node string, queue uint16) error {
	engine, err := engine(ctx, kubeconfig, node)
	if err != nil {
		return err
	}
	packets, err := nfqueue.Open(&nfqueue.Config{
		NfQueue:      queue,
		MaxPacketLen: packetBytes,
		MaxQueueLen:  4096,
		Copymode:     nfqueue.NfQnlCopyPacket,
		// The kernel leaves large packets unsplit, since only headers are read.
		Flags: nfqueue.NfQaCfgFlagGSO,
	})
	if err != nil {
		return fmt.Errorf("queue %d cannot be opened: %w", queue, err)
	}
	defer packets.Close()
	failed := make(chan error, 1)
	decide := func(packet nfqueue.Attribute) int {
		if err := packets.SetVerdict(*packet.PacketID, verdict(ctx, engine, packet)); err != nil {
			fmt.Fprintln(os.Stderr, "network-policies: a verdict was not taken:", err)
		}
		return 0
	}
	stopped := func(err error) int {
		// The kernel had more packets than there was room for (ENOBUFS). It has dropped them, and their senders
		// repeat them.
		var passing net.Error
		if errors.Is(err, syscall.ENOBUFS) || errors.As(err, &passing) && passing.Timeout() {
			return 0
		}
		failed <- err
		return 1
	}
	if err := packets.RegisterWithErrorFunc(ctx, decide, stopped); err != nil {
		return fmt.Errorf("queue %d cannot be read: %w", queue, err)
	}
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return fmt.Errorf("queue %d can no longer be read: %w", queue, err)
	}
}

// The engine with its watches of the API server, once these have been filled.
func engine(ctx context.Context, kubeconfig, node string) (*networkpolicy.PolicyEngine, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	watches := informers.NewSharedInformerFactory(client, 0)
	namespaces := watches.Core().V1().Namespaces()
	pods := watches.Core().V1().Pods()
	policies := watches.Networking().V1().NetworkPolicies()
	addresses, err := podinfo.NewInformerResolver(pods.Informer())
	if err != nil {
		return nil, err
	}
	known := podinfo.NewInformerProvider(pods, namespaces, nil, []podinfo.IPResolver{addresses})
	standard := networkpolicy.NewStandardNetworkPolicy(node, namespaces, pods, policies)
	watches.Start(ctx.Done())
	for kind, filled := range watches.WaitForCacheSync(ctx.Done()) {
		if !filled {
			return nil, fmt.Errorf("ended before %v were known", kind)
		}
	}
	return networkpolicy.NewPolicyEngine(known, []api.PolicyEvaluator{standard}), nil
}

// What cannot be read or decided is dropped.
func verdict(ctx context.Context, engine *networkpolicy.PolicyEngine, packet nfqueue.Attribute) int {
	if packet.Payload == nil {
		return nfqueue.NfDrop
	}
	headers, err := network.ParsePacket(*packet.Payload)
	if err != nil {
		return nfqueue.NfDrop
	}
	if allowed, err := engine.EvaluatePacket(ctx, &headers); err != nil || !allowed {
		return nfqueue.NfDrop
	}
	return nfqueue.NfAccept
}
