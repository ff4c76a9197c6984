package check_test

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/compose-spec/compose-go/v2/loader"
	compose "github.com/compose-spec/compose-go/v2/types"
)

func TestCompose(t *testing.T) {
	dir, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	project, err := loader.LoadWithContext(t.Context(), compose.ConfigDetails{WorkingDir: dir, Environment: compose.Mapping{},
		ConfigFiles: []compose.ConfigFile{{Filename: filepath.Join(dir, "compose.yaml")}}})
	if err != nil {
		t.Fatal(err)
	}
	for name, s := range project.Services {
		if !s.ReadOnly || s.Privileged || !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 || len(s.Ports) > 0 ||
			!slices.Equal(s.SecurityOpt, []string{"no-new-privileges:true"}) || s.NetworkMode != "" || s.Pid != "" || s.Ipc != "" {
			t.Errorf("service %s keeps rights that it does not need", name)
		}
		for _, v := range s.Volumes {
			if v.Type != compose.VolumeTypeVolume || name == "agent" && (v.Source != "handout" || !v.ReadOnly) {
				t.Errorf("service %s mounts %+v", name, v)
			}
		}
	}
	agent, sidecar := project.Services["agent"], project.Services["authsome"]
	for network := range agent.Networks {
		if !bool(project.Networks[network].Internal) {
			t.Errorf("the agent is on network %s, which leads out", network)
		}
	}
	if len(agent.Networks) != 1 || len(sidecar.Networks) != 2 || len(agent.Secrets)+len(agent.Configs) > 0 || len(sidecar.Secrets) == 0 {
		t.Errorf("networks: agent %v, authsome %v; secrets: agent %v, authsome %v", agent.Networks, sidecar.Networks, agent.Secrets, sidecar.Secrets)
	}
	if agent.DependsOn["authsome"].Condition != compose.ServiceConditionHealthy || sidecar.HealthCheck == nil {
		t.Error("the agent does not wait for the sidecar")
	}
	for _, c := range project.Configs {
		if _, err := os.Stat(c.File); err != nil {
			t.Error(err)
		}
	}
}
