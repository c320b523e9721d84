// Requests at a given rate, whatever becomes of them: many connections, each of which asks in its turn.
//
//	paced ADDRESS CONNECTIONS REQUESTS_A_SECOND SECONDS
//
// A time is counted from when a request was due, not from when it could be sent: what a proxy makes one wait for,
// the requests behind it wait for as well. Prints the count, and the 50th and 99th percentile and the longest in ms.
package main

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sort"
	"strconv"
	"sync"
	"time"
)

func main() {
	address := os.Args[1]
	connections, rate, seconds := number(os.Args[2]), number(os.Args[3]), number(os.Args[4])
	every := time.Duration(float64(connections) / rate * float64(time.Second))
	count := int(seconds * rate / connections)
	times := make([][]time.Duration, int(connections))
	open := make([]net.Conn, int(connections))
	for at := range open {
		connection, err := net.Dial("tcp", address)
		if err != nil {
			log.Fatal(err)
		}
		open[at] = connection
	}
	var all sync.WaitGroup
	start := time.Now().Add(200 * time.Millisecond)
	for at, connection := range open {
		all.Add(1)
		go func() {
			defer all.Done()
			first := start.Add(time.Duration(at) * every / time.Duration(len(open)))
			times[at] = ask(connection, address, first, every, count)
		}()
	}
	all.Wait()
	var sorted []time.Duration
	for _, each := range times {
		sorted = append(sorted, each...)
	}
	sort.Slice(sorted, func(a, b int) bool { return sorted[a] < sorted[b] })
	last := len(sorted) - 1
	fmt.Println(len(sorted), ms(sorted[last/2]), ms(sorted[last*99/100]), ms(sorted[last]))
}

func ask(connection net.Conn, address string, due time.Time, every time.Duration, count int) []time.Duration {
	request := []byte("GET / HTTP/1.1\r\nHost: " + address + "\r\n\r\n")
	reader := bufio.NewReaderSize(connection, 1024)
	times := make([]time.Duration, 0, count)
	for range count {
		time.Sleep(time.Until(due))
		if _, err := connection.Write(request); err != nil {
			log.Fatal(err)
		}
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			log.Fatal(err)
		}
		if response.StatusCode != 200 {
			log.Fatal(response.Status)
		}
		io.Copy(io.Discard, response.Body)
		times = append(times, time.Since(due))
		due = due.Add(every)
	}
	return times
}

func number(text string) float64 {
	value, err := strconv.ParseFloat(text, 64)
	if err != nil {
		log.Fatal(err)
	}
	return value
}

func ms(time time.Duration) float64 {
	return float64(time.Microseconds()) / 1000
}
