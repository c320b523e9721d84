// Go's own reverse proxy with one header added: what a small Go sidecar is made of.
//
//	reverseproxy LISTEN ORIGIN AUTHORIZATION CA_FILE pooled|allocated [FILE_OF_PREFIXES]
//
// By default ReverseProxy allocates a buffer of 32 KiB for each answer; "pooled" has them used again.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strings"
	"sync"
)

func main() {
	listen, origin, authorization, authority, buffers := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5]
	target, err := url.Parse(origin)
	if err != nil {
		log.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DisableCompression = true
	transport.MaxIdleConns = 0
	transport.MaxIdleConnsPerHost = 1024 // the default of 2 would open a connection for nearly every request
	if authority != "" {
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool()}
		transport.TLSClientConfig.RootCAs.AppendCertsFromPEM(read(authority))
		transport.ForceAttemptHTTP2 = false
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(target)
			request.Out.Header.Set("Authorization", authorization)
		},
		Transport: transport,
	}
	if buffers == "pooled" {
		proxy.BufferPool = &bufferPool{}
	}
	var handler http.Handler = proxy
	if len(os.Args) > 6 {
		routes := http.NewServeMux()
		for _, prefix := range strings.Fields(string(read(os.Args[6]))) {
			routes.Handle(prefix+"/", proxy)
		}
		handler = routes
	}
	log.Fatal(http.ListenAndServe(listen, handler))
}

type bufferPool struct{ pool sync.Pool }

func (kept *bufferPool) Get() []byte {
	if buffer, ok := kept.pool.Get().(*[]byte); ok {
		return *buffer
	}
	return make([]byte, 32<<10)
}

func (kept *bufferPool) Put(buffer []byte) { kept.pool.Put(&buffer) }

func read(file string) []byte {
	content, err := os.ReadFile(file)
	if err != nil {
		log.Fatal(err)
	}
	return content
}
