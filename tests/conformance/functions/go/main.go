// What the conformance table asks of a function, in Go.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

var (
	started = time.Now().UnixNano()
	calls   = 0
)

type asked struct {
	Do        string  `json:"do"`
	Seconds   float64 `json:"seconds"`
	Text      string  `json:"text"`
	Bytes     int     `json:"bytes"`
	Status    int     `json:"status"`
	Mebibytes int     `json:"mebibytes"`
}

func handle(ctx context.Context, event json.RawMessage) (any, error) {
	calls++
	var a asked
	// Whatever is no object asks for nothing.
	_ = json.Unmarshal(event, &a)
	switch a.Do {
	case "context":
		lc, _ := lambdacontext.FromContext(ctx)
		deadline, _ := ctx.Deadline()
		var custom any
		if len(lc.ClientContext.Custom) > 0 {
			custom = lc.ClientContext.Custom
		}
		return map[string]any{
			"requestId":       lc.AwsRequestID,
			"functionName":    lambdacontext.FunctionName,
			"functionVersion": lambdacontext.FunctionVersion,
			"arn":             lc.InvokedFunctionArn,
			"memory":          strconv.Itoa(lambdacontext.MemoryLimitInMB),
			"logGroup":        lambdacontext.LogGroupName,
			"logStream":       lambdacontext.LogStreamName,
			"remaining":       time.Until(deadline).Milliseconds(),
			"custom":          custom,
		}, nil
	case "surroundings":
		file := filepath.Join(os.TempDir(), "note")
		if err := os.WriteFile(file, []byte("kept"), 0o600); err != nil {
			return nil, err
		}
		kept, err := os.ReadFile(file)
		directory, _ := os.Getwd()
		variables := map[string]string{}
		for _, pair := range os.Environ() {
			name, value, _ := strings.Cut(pair, "=")
			variables[name] = value
		}
		return map[string]any{"variables": variables, "directory": directory, "kept": string(kept)}, err
	case "count":
		return map[string]any{"calls": calls, "started": started}, nil
	case "wait":
		time.Sleep(time.Duration(a.Seconds * float64(time.Second)))
		return map[string]any{"started": started}, nil
	case "print":
		fmt.Println(a.Text)
		return nil, nil
	case "raise":
		return nil, errors.New("no such order: grün")
	case "unserialisable":
		return make(chan int), nil
	case "size":
		return strings.Repeat("x", a.Bytes), nil
	case "exit":
		os.Exit(a.Status)
	case "memory":
		held := make([][]byte, 0, a.Mebibytes)
		for range a.Mebibytes {
			block := make([]byte, 1<<20)
			for i := range block {
				block[i] = 1
			}
			held = append(held, block)
		}
		time.Sleep(15 * time.Minute)
		return len(held), nil
	}
	return event, nil
}

func main() {
	if os.Getenv("BROKEN") != "" {
		panic("no table is configured")
	}
	lambda.Start(handle)
}
