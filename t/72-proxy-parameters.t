# A worker's parameters in mod_proxy mean what docs/proxy.rst says.
# Licensed under the Apache License, Version 2.0; see LICENSE.

use strict;
use warnings;
use FindBin qw($Bin);
use lib "$Bin/lib";
use Client;
use FcgiApp;
use Httpd;
use Private;
use Test::More;

my $TYPE = "Content-Type: text/plain\r\n";

# What the application does is the last part of the path.
my %story = (
    quiet => sub { $_[0]->wait_eof(20) },
    first => sub {
        my ($c) = @_;
        $c->stdout("$TYPE\r\nfirst");
        $c->wait_release('rest', 10);
        $c->stdout('rest');
        $c->end;
    },
    held => sub {
        my ($c) = @_;
        $c->report(held => 1);
        $c->wait_release('held', 10);
        $c->reply("$TYPE\r\nheld");
    },
    (map { my $status = $_;
           $status => sub {
               $_[0]->reply("Status: $status\r\n$TYPE\r\nits own");
           } } 404, 500, 503),
);

sub act {
    my ($c) = @_;
    while (my $request = $c->read_request(60)) {
        my ($what) = $request->{params}{REQUEST_URI} =~ m{/([^/]*)$};
        my $does = $story{$what} || sub { $_[0]->reply("$TYPE\r\n$what") };
        $does->($c);
        last if !($request->{flags} & FCGI_KEEP_CONN);
    }
    return;
}

sub url_of {
    my ($app) = @_;
    return $app->{port} ? 'fcgi://' . $app->address
        : 'unix:' . $app->address . '|fcgi://app';
}

sub serve {
    my ($config, %opt) = @_;
    return Httpd->start(modules => [qw(proxy proxy_fastcgi)],
                        config => $config, %opt);
}

my $app = FcgiApp->start(\&act, workers => 3);
my $url = url_of($app);

subtest 'times' => sub {
    my $nobody = Private::temp_dir('nobody') . '/none.sock';
    my $httpd = serve(<<"EOC", extra_vhosts => <<"EOV");
Timeout 1
FcgiTimeout 20
FcgiConnectTimeout 20
ProxyPass /timeout $url/x timeout=2
ProxyPass /none unix:$nobody|fcgi://none/x connectiontimeout=300ms
ProxyPass /plain $url/p
EOC
<VirtualHost *:*>
  ServerName server
</VirtualHost>
<VirtualHost *:*>
  ServerName other
  ProxyTimeout 3
  ProxyPass / $url/z
</VirtualHost>
EOV
    my $port = $httpd->port;
    for (['/timeout', 'server', 2000], ['/plain', 'server', 1000],
         ['/x', 'other', 3000]) {
        my ($path, $host, $time) = @$_;
        is(Client->get($port, "$path/quiet", Host => $host)->status, 504,
           "$host $path is given up");
        ok($httpd->wait_for_log(
               qr/FCGI02: .* FcgiTimeout $time ms is over/, 5),
           "after $time ms") or diag $httpd->error_log;
    }
    is(Client->get($port, '/none/x', Host => 'server')->status, 503,
       'nobody is there');
    like($httpd->error_log, qr/FCGI01: .* FcgiConnectTimeout 300 ms/,
         'for connectiontimeout');
    $httpd->ok_healthy;
};

subtest 'connections' => sub {
    my %asked = (
        'enablereuse=on' => qr/ keepalive=\d+ /,
        'disablereuse=off ttl=7' => qr/ keepalive=\d+ idle=7000ms/,
        'disablereuse=on' => qr/^(?!.*keepalive)/,
        '' => qr/^(?!.*keepalive)/,
    );
    for my $words (sort keys %asked) {
        my $before = $app->connections;
        my $httpd = serve("ProxyPass /app $url/x $words\n",
                          mpm => Httpd::mpm() eq 'prefork' ? <<'EOC' : undef);
StartServers 1
ServerLimit 1
MaxRequestWorkers 1
EOC
        my ($line) = $httpd->error_log =~ /FCGI26: (.*)/;
        like($line, $asked{$words}, "'$words': $line");
        for my $n (1 .. 3) {
            is(Client->get($httpd->port, "/app/$n")->body, $n, 'an answer');
        }
        is($app->connections - $before, $line =~ /keepalive/ ? 1 : 3,
           'as many connections');
        $httpd->leave;
    }
    Httpd->ok_left;
};

subtest 'max and acquire' => sub {
    plan skip_all => 'a child has one request' if Httpd::mpm() eq 'prefork';
    my $httpd = serve("ProxyPass /app $url/x max=1 acquire=400\n", mpm => <<'EOC');
StartServers 1
ServerLimit 1
ThreadsPerChild 8
MinSpareThreads 1
MaxSpareThreads 8
MaxRequestWorkers 8
EOC
    like($httpd->error_log, qr/FCGI26: .* max=1 .* queue-timeout=400ms/,
         'a line');
    my $conn = Client->connect($httpd->port);
    $conn->send("GET /app/held HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    $app->wait_report('held');
    is(Client->get($httpd->port, '/app/next')->status, 503, 'it is full');
    like($httpd->error_log, qr/FCGI18: .* queue-timeout/, 'for so long');
    $app->release('held');
    is($conn->read_response->body, 'held', 'the first has its answer');
    is(Client->get($httpd->port, '/app/next')->body, 'next', 'then the next');
    $httpd->ok_healthy;

    $httpd = serve("ProxyPass /app $url/x max=2\nFcgiBackend "
                   . $app->address . " max=7 keepalive=3\n"
                   . "ProxyPass /more $url/m max=3\n");
    like($httpd->error_log, qr/FCGI26: .* max=7 .* keepalive=3/,
         'FcgiBackend has the last word');
    $httpd->ok_healthy;

    $httpd = serve("ProxyPass /a $url/x max=2\nProxyPass /b $url/y max=3\n"
                   . "<Proxy $url/x>\nProxySet acquire=2000\n</Proxy>\n",
                   mpm => <<'EOC');
ServerLimit 2
ThreadsPerChild 8
MaxRequestWorkers 16
EOC
    like($httpd->error_log, qr/FCGI26: .* max=6 .* queue-timeout=30000ms/,
         'the largest, times the children, as long as Timeout');
    $httpd->ok_healthy;
};

subtest 'flushpackets' => sub {
    my $httpd = serve(<<"EOC");
FcgiFlush Off
ProxyPass /on $url/x flushpackets=on
ProxyPass /auto $url/y flushpackets=auto
<Location /auto>
  FcgiFlush Auto
</Location>
EOC
    for my $path (qw(on auto)) {
        my $conn = Client->connect($httpd->port);
        $conn->send("GET /$path/first HTTP/1.1\r\nHost: x\r\n"
                    . "Connection: close\r\n\r\n");
        ok($conn->read_until(qr/first/, 5), "$path: the first part comes");
        $conn->close;
    }
    $app->release('rest');
    $httpd->ok_healthy;
};

subtest 'what means nothing' => sub {
    my $httpd = serve("ProxyPass /app $url/x ping=1 responsefieldsize=16384 "
                      . "iobuffersize=8192 keepalive=on secret=x\n",
                      extra_vhosts => "<VirtualHost *:*>\n</VirtualHost>\n");
    my @said = $httpd->error_log =~ /FCGI42: .*/g;
    is(scalar @said, 1, 'is said once');
    like($said[0] // '', qr/: ping iobuffersize responsefieldsize keepalive secret$/,
         'by name');
    is(Client->get($httpd->port, '/app/x')->status, 200, 'and it serves');
    $httpd->ok_healthy;
};

subtest 'directives that mean nothing' => sub {
    my $lines = "ProxyPass /app $url/x\n";
    my $said = sub {
        my ($config, %opt) = @_;
        my $httpd = serve($lines . $config, %opt);
        is(Client->get($httpd->port, '/app/x')->status, 200, 'it serves');
        my @said = $httpd->error_log =~ /FCGI45: .* no other proxy: (.*)/g;
        $httpd->leave;
        return join '; ', @said;
    };
    my $host = "<VirtualHost *:*>\n%s</VirtualHost>\n";
    is($said->("ProxySourceAddress 127.0.0.3\n"
               . "ProxyRemote * http://127.0.0.1:1\n",
               extra_vhosts => sprintf $host, ''),
       'ProxySourceAddress ProxyRemote', 'are said, once');
    is($said->("ProxyRemote fcgi http://127.0.0.1:1\n"), 'ProxyRemote',
       'for this scheme');
    is($said->("ProxyRemoteMatch ^fcgi: http://127.0.0.1:1\n"),
       'ProxyRemote', 'by a pattern');
    is($said->("ProxyRemote http http://127.0.0.1:1\n"
               . "ProxyRemoteMatch ^https?: http://127.0.0.1:1\n"), '',
       'others are not ours');
    is($said->('', extra_vhosts => sprintf $host,
               "ProxySourceAddress 127.0.0.3\n"), 'ProxySourceAddress',
       'of a virtual host');
    Httpd->ok_left;
};

subtest 'X-Sendfile' => sub {
    my $files = FcgiApp->start(sub {
        my ($c) = @_;
        my $request = $c->read_request or return;
        $c->reply("${TYPE}X-Sendfile: $request->{params}{QUERY_STRING}\r\n\r\n");
    });
    my $to = url_of($files);
    my $httpd = serve(<<"EOC", files => { 'sub/a.x' => '', 'sub/r.txt' => 'r',
FcgiSendfile \@DOCROOT\@/sub
<Files "a.x">
  SetHandler "proxy:$to/"
</Files>
ProxyPass /app $to\@DOCROOT\@/sub
EOC
                                          'other.txt' => 'other' });
    for my $script ('/sub/a.x', '/app/none.x') {
        my $ask = sub {
            my $answer = Client->get($httpd->port, "$script?$_[0]");
            return $answer->status == 200 ? $answer->body : $answer->status;
        };
        is($ask->($_), 'r', "$script: $_ is below the script's folder")
            for 'r.txt', './r.txt', $httpd->docroot . '/sub/r.txt';
        is($ask->($_), 404, "$script: $_ is not")
            for '../other.txt', 'none.txt', $httpd->docroot . '/other.txt';
    }
    $httpd->ok_healthy;
};

subtest 'ProxyErrorOverride' => sub {
    my $httpd = serve(<<"EOC");
ProxyPass /app $url/x
ProxyPass /some $url/y
ProxyPass /none $url/z
ErrorDocument 404 "the site's 404"
ErrorDocument 500 "the site's 500"
ErrorDocument 503 "the site's 503"
<Location /app>
  ProxyErrorOverride On
</Location>
<Location /some>
  ProxyErrorOverride On 404 503
</Location>
EOC
    my %body = (app => { 404 => "the site's 404", 500 => "the site's 500",
                         503 => "the site's 503" },
                some => { 404 => "the site's 404", 500 => 'its own',
                          503 => "the site's 503" },
                none => { 404 => 'its own', 500 => 'its own',
                          503 => 'its own' });
    for my $path (sort keys %body) {
        for my $status (404, 500, 503) {
            my $answer = Client->get($httpd->port, "/$path/$status");
            is($answer->status, $status, "/$path/$status");
            is($answer->body, $body{$path}{$status}, 'with the page');
        }
        is(Client->get($httpd->port, "/$path/fine")->body, 'fine',
           'what is no error stays');
    }
    $httpd->ok_healthy;
};

done_testing;
